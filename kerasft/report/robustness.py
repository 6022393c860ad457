"""What the report says of `--robustness`: a curve for each corruption, and the score under attack."""

from collections.abc import Mapping
from typing import Any

from kerasft.console.wording import count
from kerasft.evaluation.score_names import ERRORS, TITLES, formatter, score_key
from kerasft.evidence import figures


def section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The variables of the template; None for a run without `--robustness`.

    Args:
        metrics: as in `metrics.json`.

    Returns:
        `score_name`; `sentences`; `panels` (title, SVG, caption); `rows` of the table (corruption, what its strength is, scores
        with their values); `baselines`, of the same corruptions: rows (name, scores), those of the network first, or none; and
        `attacks`, or None: `rows` (name, scores) and `heads`.
    """
    if "robustness" not in metrics:
        return None
    summary, curves = metrics["robustness_summary"], metrics["robustness"]
    score = measured_score(metrics)
    show, clean = formatter(score), summary["clean"]
    every = [clean, *(value for values in curves.values() for value in values)]
    y_range = (0.0, max(every) * 1.06 or 1.0) if score in ERRORS else (0.0, 1.0)
    panels = []
    for name, values in curves.items():
        title = _title(name)
        text = f"{title}: {TITLES[score]} {show(clean)} without, {show(values[-1])} at strength 5"
        drawn = figures.panel([clean, *values], list("012345"), y_range, text)
        panels.append((title, drawn, f"{show(values[0])} → {show(values[-1])}"))
    worst = max(curves, key=lambda name: sum(curves[name]) * (1 if score in ERRORS else -1))
    sentences = [
        f"On average over {count(len(curves), 'corruption')} at five strengths, the {TITLES[score]} is "
        f"{show(summary['mean'])}; on the same {count(summary['n'], 'test image')} as they are, it is {show(clean)}. "
        f"The worst corruption is {worst.replace('_', ' ')}."
    ]
    rows = [
        (
            _title(name),
            [f"{show(score_)} ({value:g})" for score_, value in zip(curves[name], values, strict=True)],
        )
        for name, values in summary["values"].items()
    ]
    found = {"score_name": TITLES[score], "sentences": sentences, "panels": panels, "rows": rows}
    return found | {"baselines": _baselines(metrics, show), "attacks": _attacks(metrics.get("attacks"), show)}


def measured_score(metrics: Mapping[str, Any]) -> str:
    """The score under corruptions, as the metrics of a split name it. Earlier versions did not record it: it was none of a quantile."""
    recorded = metrics["robustness_summary"].get("score")
    return recorded or score_key(metrics["task"], len(metrics["classes"]))


def _baselines(metrics: Mapping[str, Any], show: Any) -> list[tuple[str, list[str]]]:
    """Rows (name, scores): as the images are, the mean, and the mean of each corruption over its strengths."""
    own = metrics["robustness"] | {name: metrics["robustness_summary"][name] for name in ("clean", "mean")}
    every = {"this network": own, **(metrics.get("robustness_baselines") or {})}
    if len(every) == 1:
        return []
    return [
        (
            name.replace("_", " "),
            [
                show(row["clean"]),
                show(row["mean"]),
                *(show(sum(row[one]) / len(row[one])) for one in metrics["robustness"]),
            ],
        )
        for name, row in every.items()
    ]


def _title(name: str) -> str:
    return name.upper() if name == "jpeg" else name.replace("_", " ").capitalize()


def _attacks(found: Mapping[str, Any] | None, show: Any) -> dict[str, Any] | None:
    if not found:
        return None
    names = {"fgsm": "FGSM, one step", "pgd": "PGD, ten steps"}
    return {
        "n": found["n"],
        "heads": ["0", *(f"{epsilon}/255" for epsilon in found["epsilons"])],
        "rows": [(title, [show(value) for value in (found["clean"], *found[name])]) for name, title in names.items()],
    }
