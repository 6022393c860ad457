"""What the report says of `--abstain` and `--coverage`."""

from kerasft.console.wording import count, number, percent

_METHODS = {
    "distance": "the distance of its features to those of the nearest training image",
    "energy": "the energy of its logits",
}


def sentences(metrics: dict) -> list[str]:
    """Sentences of the section; none if neither flag was set.

    Args:
        metrics: as in `metrics.json`.
    """
    return [*_abstain(metrics.get("abstain")), *_coverage(metrics.get("coverage"))]


def _abstain(found: dict | None) -> list[str]:
    if not found:
        return []
    method = _METHODS[found["method"]]
    said = [
        f"An image counts as unknown if its novelty is above {number(found['threshold'])}. The novelty is {method}. The "
        f"threshold keeps {percent(found.get('kept_val', found['keep']))} of the validation images.",
        f"Of {count(found['n'], 'test image')}, {percent(found['kept'])} are known. The run has seen no image of an unknown "
        f"kind, so how many of them are found is not known.",
    ]
    both = [found.get(f"accuracy_{part}") for part in ("known", "unknown")]
    if None not in both:
        said.append(
            f"The accuracy is {percent(both[0])} on the known test images and {percent(both[1])} on the others."
        )
    return said


def _coverage(found: dict | None) -> list[str]:
    if not found:
        return []
    asked = f"{percent(found['asked'])} were asked for, and {count(found['calibrated_on'], 'validation image')} set the limit."
    if "mean_set_size" in found:
        return [
            f"The sets of labels hold the true class of {percent(found['observed'])} of {count(found['n'], 'test image')}. {asked}",
            f"A set has {number(found['mean_set_size'])} labels on average. {percent(found['empty_sets'])} of the sets are "
            f"empty: no label is likely enough.",
        ]
    named = [
        f"{name}: {percent(share)} of {count(found['n'], 'test image')}, width {number(found['width'][name])}"
        for name, share in found["by_target"].items()
    ]
    return [f"{asked} How often the intervals hold the true values: {'; '.join(named)}."]
