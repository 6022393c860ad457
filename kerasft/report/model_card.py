"""The model card `MODEL_CARD.md`, next to each export: what is known of the model, and what is not.

Its head is the YAML of a Hugging Face model card (https://huggingface.co/docs/hub/model-cards). Its sections follow
Mitchell et al. 2019, "Model Cards for Model Reporting". Everything is taken from the files of the run.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2

from kerasft import __version__
from kerasft.console import wording
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_names import TITLES, score_key
from kerasft.export.model_folders import MODEL_CARD
from kerasft.report import headline, sections, summary, uncertainty_section, usage
from kerasft.storage import predictions_file, run_folder

# The Hub has no name for models that give values.
_PIPELINE_TAGS = {"single_label": "image-classification", "multi_label": "image-classification"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!$])")


def write(folder: Path, metrics: dict, places: Iterable[Path]) -> None:
    """Writes the card into each of the folders, atomically.

    Args:
        folder: the run folder, with `predictions.npz`, `config.json` and `audit.json`.
        metrics: as in `metrics.json`, which may not be written yet.
        places: folders of exports, such as `saved_models/NAME/VERSION`.
    """
    text = render(folder, metrics)
    for place in places:
        # A class name that is no valid Unicode is shown with question marks.
        run_folder.write(place / MODEL_CARD, lambda file: file.write(text.encode("utf-8", "replace")))


def render(folder: Path, metrics: dict) -> str:
    """Returns the text of the card; arguments as in `write`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kerasft.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": wording.percent, "counted": wording.count, "number": wording.number}
    environment.filters |= {"plain": _escape, "yaml": _to_yaml, "plain_space": _with_plain_spaces}
    return environment.get_template("MODEL_CARD.md.j2").render(_content(folder, metrics))


def _content(folder: Path, metrics: dict) -> dict[str, Any]:
    config, audit = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "audit"))
    arrays = predictions_file.read(folder)
    task, classes, test, export = metrics["task"], metrics["classes"], metrics["test"], metrics["export"]
    caveats = headline.find_caveats(metrics, audit, arrays["ids"])
    result = headline.HEADLINES[task](test, arrays, classes, caveats)
    heads, by_class = sections.per_class(task, test)
    quantile = asked_quantile(test)
    key = score_key(task, len(classes), quantile)
    score, settled, cost = sections.judging_score(task, test), metrics.get("settled", {}), metrics.get("cost", {})
    backbone = settled.get("backbone", config["backbone"])
    rejected, warned = (
        Counter(row["kind"].replace("_", " ") for row in audit["findings"] if (row["verdict"] == "reject") == reject)
        for reject in (True, False)
    )
    return {
        "name": Path(export["path"]).parent.name,
        "version_of_model": Path(export["path"]).name,
        "version": __version__,
        "task": task,
        "pipeline_tag": _PIPELINE_TAGS.get(task, ""),
        "classes": classes,
        "score": score,
        "quantile": quantile,
        "metric_type": score or key,
        "key": key,
        "score_name": TITLES[key],
        "metrics": metrics,
        "test": test,
        "result": result,
        "caveats": caveats,
        "metric_rows": sections.metric_rows(test, metrics["val"]),
        "heads": heads,
        "by_class": by_class,
        "audit": audit,
        "counts": sections.split_counts(audit["counts"]),
        "rejected": rejected,
        "warned": warned,
        "config": config,
        "backbone": backbone,
        "weights": summary.weights(backbone, settled.get("weights", config["weights"])),
        "phases": sections.phases(metrics["phases"], score, judged=summary.judged(metrics)),
        "dropped": settled.get("dropped_phases", []),
        "changes": [row["surgery"] for row in settled.get("surgery", [])],
        "teachers": summary.teachers(settled),
        "unknowns": uncertainty_section.sentences(metrics),
        "costs": sections.costs(cost),
        # Earlier versions had no pinball loss of a quantile.
        "baselines": {name: row for name, row in metrics.get("baselines", {}).items() if (score or key) in row},
        "python": usage.serving(export["path"], task)["Python"],
    }


def _escape(text: object) -> str:
    """A text in one line of Markdown, without markup of its own."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _to_yaml(value: object) -> str:
    """JSON is YAML, whatever a name consists of."""
    return json.dumps(value, ensure_ascii=True)


def _with_plain_spaces(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")
