"""The sections of a report: converts the files of a run folder to what the page shows."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import MISSING, fields

import numpy as np

from kerasft.console.wording import NOT_MEASURED, count, duration, number, percent, signed, span
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_names import SCORES, formatter
from kerasft.evidence import figures
from kerasft.settings.config import Config

# More findings of one kind are counted, not listed.
MAX_LISTED_FINDINGS = 20

_METRICS = {
    "accuracy": ("Accuracy", "right answers", percent),
    "top5_accuracy": ("Top-5 accuracy", "the right answer is among the five highest", percent),
    "map": ("Mean average precision", "over the labels; 1 is perfect", number),
    "pinball": ("Mean pinball loss", "lowest for the quantile that is asked for", number),
    "mae": ("Mean absolute error", "how far off an answer is on average", number),
    "scaled_mae": ("Mean absolute error in deviations", "in units of each value’s standard deviation", number),
    "rmse": ("Root mean squared error", "the same, great errors counting more", number),
    "r2": ("R²", "share of the variation explained; 1 is perfect", number),
    "macro_f1": ("Macro F1", "precision and recall, every class counting the same", number),
    "micro_f1": ("Micro F1", "precision and recall, every decision counting the same", number),
    "exact_match": ("Exact match", "all labels of an image are right", percent),
    "ece": ("Calibration error", "how far probabilities are from the observed frequencies (ECE)", percent),
    "coverage": ("Coverage", "share of the true values that the answers reach; it should be the quantile", percent),
    "quantile": ("Quantile", "that the answers are to be", number),
    "loss": ("Loss", "what training lowers; for comparing runs on the same data", number),
    "n": ("Images", "", "{:,}".format),
}
# Metrics in the units of the targets. Their mean over several targets means nothing.
_IN_UNITS = ("mae", "rmse")
# Metrics of means, which do not judge a quantile.
_OF_MEANS = ("mae", "scaled_mae", "rmse", "r2")
_CLASS_COLUMNS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
_COLUMNS = {
    "single_label": {**_CLASS_COLUMNS, "n": "Images"},
    "multi_label": {
        "average_precision": "Average precision",
        **_CLASS_COLUMNS,
        "threshold": "Threshold",
        "n": "Images",
    },
    "regression": {"mae": "MAE", "rmse": "RMSE", "r2": "R²"},
}


def metric_rows(test: dict, val: dict) -> list[tuple[str, str, str, str]]:
    """Returns name, meaning, test value and validation value of each metric of the task."""
    left_out = _IN_UNITS if len(test.get("per_target", {})) > 1 else ("scaled_mae",)
    left_out = left_out if asked_quantile(test) is None else _OF_MEANS
    return [
        (name, meaning, *(show(part[key]) if key in part else NOT_MEASURED for part in (test, val)))
        for key, (name, meaning, show) in _METRICS.items()
        if key in test and key not in left_out
    ]


def judging_score(task: str, test: dict) -> str | None:
    """The score that phases and models are compared by; None for a quantile, of which the loss is the pinball loss."""
    return SCORES[task] if asked_quantile(test) is None else None


def score_name(score: str | None, outputs: int) -> str:
    """Returns the name of the score. The error of several targets is in units of their standard deviations."""
    if score is None:
        return _METRICS["pinball"][0].lower()
    several = score == "mae" and outputs > 1
    return _METRICS["scaled_mae" if several else score][0].lower()


def is_solved_head(record: dict) -> bool:
    """Whether a phase, a row of `phases` of `metrics.json`, is the solved head: it has no epochs, and nothing undoes it."""
    return record["accepted"] and not record["epochs"]


def phases(records: list[dict], score: str | None, *, judged: bool = True) -> list[dict]:
    """Returns the phases with a verdict, and their metrics as text.

    Args:
        records: `phases` of `metrics.json`.
        score: as `judging_score` gives it.
        judged: whether the validation images were enough to judge a phase.
    """
    show, rows = formatter(score), []
    for record in records:
        share, trained = record["share"] if record["accepted"] else 0.0, record["epochs"]
        row = {key: record[key] for key in ("name", "spec", "cached")}
        row["refused"] = record.get("refused")
        row["verdict"] = {0.0: "undone" if trained else "no epochs", 1.0: "kept" if judged else "kept, not judged"}.get(
            share, f"kept to {share:.0%}"
        )
        if is_solved_head(record):
            # Of the arguments of its phase none was used.
            row["spec"], row["verdict"] = record["spec"].partition("(")[0], "solved"
        row["accepted"], row["time"] = share > 0, duration(record["seconds"])
        row["speed"] = f"{record['images_per_second']:,.0f} images/s" if trained else ""
        row["loss"] = [number(record[f"val_{when}"]) for when in ("before", "after")]
        row["score"] = [show(record[f"val_{score}_{when}"]) for when in ("before", "after")] if score else []
        row["trained"] = percent(record["trainable"] / (record["trainable"] + record["frozen"]))
        row["temperature"] = number(record["temperature"]) if record["temperature"] != 1 else ""
        rows.append(row)
    return rows


def surgeries(settled: dict) -> list[tuple[str, list[str]]]:
    """What `--surgery` did: each surgery, with parameters and multiplications before and after."""
    return [
        (row["surgery"], [f"{row[key][0]:,} → {row[key][1]:,}" for key in ("parameters", "macs")])
        for row in settled.get("surgery", [])
    ]


def tried(settled: dict) -> list[tuple[str, list[str], list[tuple[str, list[str]]]]]:
    """Flag, heads and rows (choice, values) of each table of `settled.json`: what `auto` measured of each choice."""
    columns = {
        "loss": ("Held-out loss", number),
        "accuracy": ("Accuracy", percent),
        "parameters": ("Parameters", "{:,}".format),
        "macs": ("Multiplications", "{:,}".format),
        "images_per_second": ("Images/s", "{:,.0f}".format),
        "seconds": ("Time", duration),
    }
    found = []
    for key in settled:
        if key.endswith("_table"):
            used = {name: column for name, column in columns.items() if settled[key][0].get(name) is not None}
            rows = [(row["choice"], [show(row[name]) for name, (_, show) in used.items()]) for row in settled[key]]
            found.append((key.removesuffix("_table"), [head for head, _ in used.values()], rows))
    return found


def costs(cost: dict) -> list[tuple[str, str]]:
    """Returns title and value of what an answer of the served network costs; empty for runs that did not measure it."""
    if not cost:
        return []
    speeds = [
        (f"Images/s, {count(int(size), 'image')} a call", number(speed))
        for size, speed in cost["images_per_second"].items()
    ]
    return [
        ("Parameters", f"{cost['parameters']:,}"),
        ("Multiplications an image", f"{cost['macs']:,}"),
        *speeds,
        ("SavedModel on disk", f"{cost['bytes'] / 1e6:,.1f} MB"),
    ]


def baselines(found: dict[str, dict], test: dict, score: str | None) -> list[tuple[str, list[str]]]:
    """Returns rows (name, values) of what frozen features reach without fine-tuning; the trained network comes first.

    Args:
        found: `baselines` of `metrics.json`.
        test: the metrics of the trained network.
        score: as `judging_score` gives it; None gives the pinball loss of a quantile, in the units of the headline, alone.
    """
    if not found:
        return []
    if score is None:
        # Earlier versions did not record it.
        rows = baselines({name: row for name, row in found.items() if "pinball" in row}, test, "pinball")
        return [(name, [reached, gain, *costs]) for name, (reached, _, gain, _, *costs) in rows]
    show = formatter(score)

    def difference(values: list[float | None], shown: Callable[[float], str] = "{:.3f}".format) -> str:
        # Of None the images do not tell: none has any of the labels, for example, or there is one.
        known = [signed(value, shown) for value in values if value is not None]
        return f"{known[0]} ({known[1]} to {known[2]})" if len(known) == 3 else "".join(known[:1])

    def size(row: dict) -> str:
        # Runs of earlier versions did not record it.
        return f"{row['bytes'] / 1e6:,.2f} MB" if "bytes" in row else ""

    # Of several targets, each in its own units, the mean error in deviations is compared.
    reached = test["scaled_mae"] if score == "mae" and len(test.get("per_target", {})) > 1 else test[score]
    rows = [("this network", [show(reached), number(test["loss"]), "", "", "", ""])]
    for name, row in found.items():
        reached = show(row[score]) + (f" ({span(row['interval'], show)})" if "interval" in row else "")
        gains = [difference(row["difference"], show), difference(row["loss_difference"])]
        rows.append(
            (name.replace("_", " "), [reached, number(row["loss"]), *gains, duration(row["seconds"]), size(row)])
        )
    return rows


def curves(history: list[dict], records: list[dict], score: str | None, name: str) -> list[tuple[str, str]]:
    """Returns title and SVG of the loss and of the score over all epochs; empty without epochs.

    Args:
        score: as `judging_score` gives it; None draws the loss alone.
        name: of the score, for the title.
    """
    if not history:
        return []
    epochs_by_phase = defaultdict(list)
    for index, row in enumerate(history, start=1):
        epochs_by_phase[row["phase"]].append(index)
    kept = {record["name"]: record for record in records}

    def draw(title: str, lines: dict[str, str], after: str, ceiling: float = np.inf) -> tuple[str, str]:
        spans = [
            figures.Span(name, places[0], places[-1], _or_nan(kept.get(name, {}).get(after)))
            for name, places in epochs_by_phase.items()
        ]
        # `auto` does not validate every epoch.
        values = {kind: [row.get(column) for row in history] for kind, column in lines.items()}
        measured = {kind: [value for value in line if value is not None] for kind, line in values.items()}
        ends = ", ".join(f"{kind} {number(line[0])} to {number(line[-1])}" for kind, line in measured.items())
        epochs = count(len(history), "epoch")
        return title, figures.curves(values, spans, f"{title} over {epochs}: {ends}", ceiling)

    losses = draw("Loss", {"train": "loss", "val": "val_loss"}, "val_after")
    if score is None:
        return [losses]
    title, ceiling = f"{name.capitalize()} on validation", np.inf if score == "mae" else 1.0
    return [
        losses,
        draw(title, {"val": f"val_{score}"}, f"val_{score}_after", ceiling),
    ]


def _or_nan(value: float | None) -> float:
    """A figure; NaN where it could not be measured."""
    return np.nan if value is None else value


def per_class(task: str, test: dict) -> tuple[list[str], list[tuple[str, list[str], float]]]:
    """Returns column titles and rows (name, values, bar in 0..1) by class or target: the worst first, the unmeasured last."""
    if (quantile := asked_quantile(test)) is not None:
        return ["Pinball loss", "Coverage"], _by_quantile(test["per_target"], quantile)
    columns = _COLUMNS[task]
    table, worst, show = test.get("per_class"), "f1", _two_decimals
    if task == "regression":
        table, worst, show = test["per_target"], "r2", number

    def unmeasured(row: dict) -> bool:
        """Whether there are no examples, or the true values do not vary."""
        return row[worst] is None or row.get("n") == 0

    rows = [
        (name, [f"{row[key]:,}" if key == "n" else show(row[key]) for key in columns], max(row[worst] or 0.0, 0.0))
        for name, row in sorted(table.items(), key=lambda item: (unmeasured(item[1]), item[1][worst] or 0.0))
    ]
    return list(columns.values()), rows


def _by_quantile(table: dict[str, dict], quantile: float) -> list[tuple[str, list[str], float]]:
    """The rows of targets of which a quantile is predicted: that of the worst coverage first. Early runs recorded none."""
    rows = sorted(table.items(), key=lambda item: -abs(item[1].get("coverage", quantile) - quantile))
    return [
        (name, [number(row.get("pinball")), percent(row.get("coverage"))], row.get("coverage", 0.0))
        for name, row in rows
    ]


def _two_decimals(value: float | None) -> str:
    """Formats with two decimals. A small number gets more, so that it does not round to 0."""
    return number(value) if value is None or 0 < abs(value) < 0.01 else f"{value:.2f}"


def split_counts(counts: dict[str, dict[str, int]]) -> dict:
    """Returns the splits, rows (class, counts, bars in percent), and the ratio of the most to the least frequent class."""
    names = list(dict.fromkeys(name for table in counts.values() for name in table))
    rows = [(name, [table.get(name, 0) for table in counts.values()]) for name in names]
    sums = [sum(row) for _, row in rows]
    most, least = max(sums, default=0), min(sums, default=0)
    return {
        "parts": list(counts),
        "totals": [sum(table.values()) for table in counts.values()],
        "rows": [(name, row, [100 * n / max(most, 1) for n in row]) for name, row in rows],
        "uneven": most / least if least else 0.0,
    }


def findings(rows: list[dict]) -> list[dict]:
    """Groups findings by kind. Rejected files come first."""
    kinds = defaultdict(list)
    for row in rows:
        kinds[row["verdict"] != "reject", row["kind"]].append(row)
    groups = sorted(kinds.items(), key=lambda item: (item[0][0], -len(item[1])))
    return [
        {"kind": kind.replace("_", " "), "kept": kept, "n": len(group), "rows": group[:MAX_LISTED_FINDINGS]}
        for (kept, kind), group in groups
    ]


def settings(config: dict) -> tuple[list[tuple], list[tuple]]:
    """Returns flag, value and help text of the settings that differ from the defaults, and of those that do not."""
    parts = ([], [])
    for item in fields(Config):
        default = list(item.default) if isinstance(item.default, tuple) else item.default
        if item.name in config and default is not MISSING:
            value = config[item.name]
            parts[value == default].append((f"--{item.name}", value, item.metadata["help"]))
    return parts
