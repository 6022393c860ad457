"""The sentences under the headline of a report: what learned what, from what, and what became of it."""

from pathlib import Path

from kerasft.console.wording import count, duration, join_names, number, percent
from kerasft.evaluation.score_names import AGREEMENTS, MIN_VALIDATION_IMAGES, SCORES, TITLES, formatter
from kerasft.report import sections
from kerasft.settings.backbone_list import is_file, is_hub

_WEIGHTS = {"imagenet": "ImageNet weights", "none": "random weights", "bundled": "the bundled weights"}


def sentences(config: dict, metrics: dict, counts: dict) -> list[str]:
    """Describes the run in two sentences, and in further ones what is averaged (`--tta`) and who taught (`--teacher`)."""
    settled = metrics.get("settled", {})
    chosen, backbone = settled.get("weights", config["weights"]), settled.get("backbone", config["backbone"])
    learned = "" if metrics["task"] == "multi_label" else f" from {count(sum(counts['train'].values()), 'image')}"
    things = {"single_label": ("class", "classes"), "multi_label": ("label",), "regression": ("value",)}
    kinds = count(len(metrics["classes"]), *things[metrics["task"]])
    proof = metrics["export"]
    mirrored = ["Each answer is the mean over an image and its mirror image."] if metrics.get("tta") == "flip" else []
    same = " and gave the same labels" if proof.get(AGREEMENTS.get(metrics["task"])) == 1 else ""
    changes = ", ".join(row["surgery"] for row in metrics.get("settled", {}).get("surgery", []))
    changed = f" after {changes}" if changes else ""
    return [
        f"{backbone} with {weights(backbone, chosen)}{changed} learned {kinds}{learned}, {metrics['image_size']} × {metrics['image_size']} "
        f"pixels each, in {duration(metrics['seconds']['total'])}; {_outcome(metrics)}.",
        f"Nothing was chosen by the test images. The exported model answered all {proof['n']:,} of them from the "
        f"files themselves{same}; its numbers are the same within {proof['max_abs_diff']:.1e}.",
        *mirrored,
        *teachers(settled),
    ]


def weights(backbone: str, chosen: str) -> str:
    """What the backbone began with, in words. A saved model and a preset of KerasHub have weights of their own.

    Args:
        backbone, chosen: `--backbone` and `--weights`, without lists and `auto`.
    """
    if is_file(backbone) or (is_hub(backbone) and chosen != "none"):
        return "its own weights"
    return _WEIGHTS.get(chosen, f"weights from {Path(chosen).name}")


def judged(metrics: dict) -> bool:
    """Whether the validation images were enough to judge a phase."""
    return metrics["val"]["n"] >= MIN_VALIDATION_IMAGES


def _outcome(metrics: dict) -> str:
    """What became of the phases, in a clause."""
    phases = metrics["phases"]
    if judged(metrics):
        solved = ["the head was solved"] if any(map(sections.is_solved_head, phases)) else []
        return ", and ".join(solved + _helped([phase for phase in phases if phase["epochs"]])) or "nothing was trained"
    what = "what was trained is kept as it is" if any(phase["accepted"] for phase in phases) else "nothing was kept"
    dropped = metrics.get("settled", {}).get("dropped_phases", [])
    left_out = f"; not trained: {', '.join(dropped)}" if dropped else ""
    few = count(metrics["val"]["n"], "validation image")
    return f"{few} cannot judge a phase (needed: {MIN_VALIDATION_IMAGES}), so {what}{left_out}"


def _helped(phases: list[dict]) -> list[str]:
    """How many of the phases that could be undone were kept, in a clause; none without such phases."""
    kept = sum(phase["accepted"] for phase in phases)
    if phases and not kept:
        return ["no training phase helped on validation, so all were undone"]
    helped = f"{kept} of {count(len(phases), 'training phase')} helped on validation"
    return [f"{helped} and {'was' if kept == 1 else 'were'} kept"] if phases else []


def teachers(settled: dict) -> list[str]:
    """A sentence on the teachers, and how good they are; none without them."""
    if not (taught := settled.get("teacher")):
        return []
    name = next(name for name in SCORES.values() if f"val_{name}" in taught)
    paths = [row["path"] for row in taught["members"]]
    who = f"a teacher, {paths[0]}" if len(paths) == 1 else f"the mean of {len(paths)} teachers, {join_names(paths)}"
    score = formatter(name)(taught[f"val_{name}"])
    parts = [f"its answers have {percent(taught['weight'], 0)} of the loss"] if taught["weight"] else []
    if "features_weight" in taught:
        parts.append(f"its features a weight of {number(taught['features_weight'])}")
    further = f" Of {count(taught.get('unlabelled', 0), 'further image')} without labels it learned the answers alone."
    known = [
        f" {row['path']} has learned {count(row['learned_test_images'], 'test image')} of this run."
        for row in taught["members"]
        if row.get("learned_test_images")
    ]
    return [
        f"It learned from the labels and from {who}, whose {TITLES[name]} on the same validation images is "
        f"{score} (loss {number(taught['val_loss'])}); {', '.join(parts)}."
        + (further if "unlabelled" in taught else "")
        + "".join(known)
    ]
