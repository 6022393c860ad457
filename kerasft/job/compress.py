"""`kerasft compress`: portable artefacts of a finished run, and the table of all its artefacts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.table import Table

from kerasft import report
from kerasft.console import console
from kerasft.console.wording import number, percent
from kerasft.data import groups, pipeline
from kerasft.data.splits import Splits
from kerasft.evaluation.score_interval import score_interval
from kerasft.evaluation.score_names import TITLES
from kerasft.evaluation.scoring import Scorer
from kerasft.export.artefact import Answer
from kerasft.export.keras_model import KERAS_FILE
from kerasft.export.portable import FORMATS, publish
from kerasft.job import artefact_costs, portable_export, slim_steps
from kerasft.job.finished_run import read_files, reopen
from kerasft.job.run_summary import page_images
from kerasft.report.compress_page import fastest_and_smallest, sentence
from kerasft.settings.config import FIELDS, Config
from kerasft.settings.errors import UserError, one_of
from kerasft.storage import run_folder, run_lock
from kerasft.training import train_setup

JSON_NAME = "compress.json"
SCRATCH = ".compress"


@pipeline.user_errors()
def compress(settings: Config, run: str, timings: bool = True) -> list[dict]:
    """Publishes portable artefacts of a finished run, and writes `compress.json` and `compress.html` into its folder.

    What became of them is recorded in `metrics.json` and in the report too.

    The slimmer networks that `--target` has made of it are further rows.

    Args:
        settings: `--export`, `--max_drop` and `--allow_imports` are taken from it, and an `--export_dir` that is not the default; the
            rest from the run.
        run: the run folder.
        timings: whether start-up, memory and speed are measured, in processes of their own.

    Returns:
        The rows of `compress.json`: the SavedModel, the portable artefacts, the slimmer networks.

    Raises:
        UserError: no finished run, another command works in it, `--export` names no portable format, the images have changed, or
            another run has this version in `--export_dir`.
    """
    if not publish.parse_formats(settings.specs("export")):
        rule = f"must name a format for another runtime: {one_of(FORMATS)}"
        raise UserError(f"--export: {rule}. Received: {settings.export!r}")
    metrics, _ = read_files(run, keys=("export",))
    if not metrics["export"].get("published", True):
        rule = "its model is not published (--gate); the command of the run without --gate publishes it"
        raise UserError(f"--model: {rule}. Received: {run!r}")
    with run_lock.locked(Path(run)):
        return _compress(settings, run, timings)


def _compress(settings: Config, run: str, timings: bool) -> list[dict]:
    """Does the work of `compress` in a locked run folder."""
    folder = Path(run)
    changes = {name: getattr(settings, name) for name in ("allow_imports", "export", "max_drop")}
    # The default is not what the run had, whose SavedModel the artefacts belong beside.
    if settings.export_dir != FIELDS["export_dir"].default:
        changes["export_dir"] = settings.export_dir
    opened = reopen(run, **changes)
    config, metrics, network, splits = opened.config, opened.metrics, opened.network, opened.splits
    portable_export.refuse_other_runs(config, metrics)
    with run_folder.scratch(folder, SCRATCH) as place:
        scorer = train_setup.prepare(config, network, splits, place).scorer
    run_name = metrics.get("run", metrics["weights_sha256"])
    answer = Answer(run_name, splits.classes, opened.thresholds, scorer.scale, metrics["framing"])
    score, saved_model = scorer.key, Path(metrics["export"]["path"])
    interval = _interval(scorer, splits, metrics["test"])
    made = portable_export.export(
        config, network, answer, splits, scorer, opened.outputs, saved_model, folder, interval
    )
    # Before anything is timed: what the run has published may be gone by now.
    metrics["artefacts"] = portable_export.updated(metrics.get("artefacts", {}), made)
    metrics |= report.write_report(folder, metrics, *page_images(folder, metrics, opened.listing))
    run_folder.write_figures(folder / "metrics.json", metrics)
    folders = portable_export.export_folders(config, metrics)
    report.write_model_card(folder, metrics, folders)
    there = saved_model in folders
    whole = {"artefact": publish.SAVED_MODEL, "path": saved_model.as_posix(), "published": there}
    whole["reason"] = "" if there else "its folder is not there any more"
    whole |= {name: metrics["test"][name] for name in (score, "loss", "n")}
    whole["interval"] = interval(opened.outputs, whole[score])
    files = saved_model.rglob("*") if there else [folder / KERAS_FILE]
    whole["bytes"] = sum(file.stat().st_size for file in files if file.is_file())
    rows = [*made.values(), *slim_steps.rows(folder, metrics, score, splits.test.ids, opened.outputs)]
    rows = [{"number": number} | row for number, row in enumerate([whole, *rows], 1)]
    if timings:
        found = artefact_costs.measure({row["artefact"]: Path(row["path"]) for row in rows if row["published"]})
        rows = [row | found.get(row["artefact"], {}) for row in rows]
    values = {"rows": rows, "max_drop": config.max_drop, "score": score, "name": saved_model.parent.name}
    values |= {"timed": timings, "cheapest": fastest_and_smallest(rows, score)}
    run_folder.write_json(folder / JSON_NAME, values)
    report.write_compress(folder, values)
    console.print_table(_table(rows, score))
    if text := sentence(values):
        console.say(text)
    console.say(f"compress: {folder / JSON_NAME}, {folder / 'compress.html'}")
    return rows


def _interval(scorer: Scorer, splits: Splits, test: dict) -> Callable[[np.ndarray, float], list[float] | None]:
    """From answers to the test images, float [N, C], and their score to the 95 % interval of the score; None where there is none.

    Args:
        scorer: of the run.
        test: the test metrics of the run.
    """
    arrays, key = {"labels": splits.test.labels}, "values" if scorer.task == "regression" else "probabilities"
    if (found := groups.repeated(splits.test.groups)) is not None:
        arrays["groups"] = found

    def interval(answers: np.ndarray, value: float) -> list[float] | None:
        scored, answered = test | {scorer.key: value}, arrays | {key: answers}
        _, low, high = score_interval(scorer.task, scored, answered, splits.classes, scorer.asked_quantile)
        return None if low is None else [low, high]

    return interval


def _table(rows: list[dict], score: str) -> Table:
    table = Table(title="Artefacts, on the test images", title_justify="left")
    heads = ("artefact", TITLES[score], "loss", "same", "kB", "img/s (1)", "(32)", "kept")
    for head in heads:
        justify = "left" if head in ("artefact", "kept") else "right"
        table.add_column(head, justify=justify, overflow="fold")
    for row in rows:
        speeds = row.get("images_per_second", {})
        cells = [
            row["artefact"],
            *(console.format_metric(row[name]) if name in row else "" for name in (score, "loss")),
        ]
        cells += [percent(row["agreement"]) if "agreement" in row else ""]
        cells += [f"{row['bytes'] / 1000:,.0f}" if "bytes" in row else ""]
        cells += [number(speeds[size]) if size in speeds else "" for size in ("1", "32")]
        table.add_row(*cells, "yes" if row["published"] else "no")
    return table
