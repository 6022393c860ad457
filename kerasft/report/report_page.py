"""The page `report.html`: one self-contained file without scripts."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import jinja2
import numpy as np

from kerasft import __version__
from kerasft.console import wording
from kerasft.evaluation.score_names import score_key
from kerasft.evidence import EVIDENCE, predictions
from kerasft.evidence.predictions import Section
from kerasft.report import (
    baseline_section,
    gallery,
    headline,
    health,
    robustness,
    sections,
    summary,
    uncertainty_section,
    usage,
)
from kerasft.storage import predictions_file, run_folder


def write_report(
    folder: Path,
    metrics: dict,
    images: Callable[[np.ndarray], np.ndarray],
    by_path: Callable[[list[str]], list[np.ndarray]] | None = None,
) -> dict[str, dict]:
    """Writes `report.html` from the files of a run folder.

    Args:
        folder: with `predictions.npz`, `config.json`, `audit.json`, `run.flags` and, if a phase had epochs,
            `history.jsonl`.
        metrics: as in `metrics.json`, which is written after this page.
        images: from positions in the test split, int [B], to images, uint8 [B, S, S, 3].
        by_path: from paths of `audit.json` to images, uint8 [S, S, 3] each; None shows no suspects.

    Returns:
        The figures of each piece of evidence by its name, for `metrics.json`. Evidence without figures is left out.
    """
    arrays = predictions_file.read(folder)
    predicted = predictions.from_arrays(metrics["task"], metrics["classes"], arrays, images)
    evidence_sections = [evidence(predicted) for evidence in EVIDENCE.values()]
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            _content(folder, metrics, arrays, evidence_sections)
            | {"against_baseline": baseline_section.section(metrics, folder, images)}
            | gallery.make(folder, json.loads((folder / "audit.json").read_text())["findings"], by_path)
        )
    )
    # A file name that is no valid Unicode is shown with question marks.
    run_folder.write(folder / "report.html", lambda file: file.write(page.encode("utf-8", "replace")))
    return {section.name: dict(section.figures) for section in evidence_sections if section.figures}


def environment() -> jinja2.Environment:
    """Returns the template environment. It escapes all text, and has the functions of `console.wording` as filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kerasft.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": wording.percent, "duration": wording.duration, "counted": wording.count}
    environment.filters |= {"number": wording.number}
    return environment


def _content(folder: Path, metrics: dict, arrays: dict[str, np.ndarray], evidence_sections: list[Section]) -> dict:
    config, audit = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "audit"))
    log = folder / "history.jsonl"
    history = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    task, classes, test = metrics["task"], metrics["classes"], metrics["test"]
    score, path = sections.judging_score(task, test), metrics["export"]["path"]
    heads, by_class = sections.per_class(task, test)
    changed, defaults = sections.settings(config)
    content = {
        "name_of_data": Path(path).parent.name,
        "date": time.strftime("%d %B %Y", time.localtime((folder / predictions_file.NAME).stat().st_mtime)).lstrip("0"),
        "version": __version__,
        "task": task,
        "score": score,
        "score_name": sections.score_name(score, len(classes)),
        "metrics": metrics,
        "headline": headline.HEADLINES[task](
            test, arrays, classes, headline.find_caveats(metrics, audit, arrays["ids"])
        ),
        "summary": summary.sentences(config, metrics, audit["counts"]),
        "metric_rows": sections.metric_rows(test, metrics["val"]),
        "phases": sections.phases(metrics["phases"], score, judged=summary.judged(metrics)),
        "judged": summary.judged(metrics),
        "curves": sections.curves(history, metrics["phases"], score, sections.score_name(score, len(classes))),
        "history": history,
        "health": health.phases(metrics.get("gradient_health", {})),
        "classes": classes,
        "heads": heads,
        "by_class": by_class,
        "audit": audit,
        "data": sections.split_counts(audit["counts"]),
        "findings": sections.findings(audit["findings"]),
        "changed": changed,
        "defaults": defaults,
        "settled": metrics.get("settled", {}),
        "surgeries": sections.surgeries(metrics.get("settled", {})),
        "baselines": sections.baselines(metrics.get("baselines", {}), test, score),
        "costs": sections.costs(metrics.get("cost", {})),
        "tried": sections.tried(metrics.get("settled", {})),
        "serving": usage.serving(path, task),
        "repeating": usage.repeating(folder),
        "explaining": usage.explaining(folder),
        "uncertainty": uncertainty_section.sentences(metrics),
        "robustness": robustness.section(metrics),
        "artefacts": _artefacts(metrics, score),
        "flags": (folder / "run.flags").read_text(),
        "folder": folder.as_posix(),
    }
    for section in evidence_sections:
        content |= section.context
    return content


def _artefacts(metrics: dict, score: str | None) -> list[dict]:
    """The rows of portable artefacts, with what they reach under the name of the task's score."""
    rows = [row for row in metrics.get("artefacts", {}).values() if "artefact" in row]
    if score is None:
        return rows
    # Earlier versions wrote it under that name too where it was in deviations.
    key = score_key(metrics["task"], len(metrics["classes"]))
    return [row | {score: row[key]} if key in row else row for row in rows]
