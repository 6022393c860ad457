"""What the gradients, updates and activations of a phase say about its health, by stated rules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The name of the layers behind the backbone, which count as one block.
HEAD = "head"

# A block's gradient vanishes below this fraction of the largest block's. Ten sigmoid layers pass on at most 0.25 ** 10 =
# 1e-6 of a gradient (Glorot and Bengio 2010). Pretrained networks with normalisation stay above 1e-2.
VANISHED = 1e-4

# A gradient explodes above this norm. Optimizers clip it at 1 by default, so only its direction is left.
EXPLODED = 1e3

# One step may change a block by this fraction of its weights. About 1e-3 is usual.
LARGEST_UPDATE = 0.1

# A block is dead if so many of its ReLU units are 0 on all images, and in this phase became so many more.
DEAD, NEWLY_DEAD = 0.5, 0.1
# From here on it counts as dead even if it was so before the phase.
ALL_DEAD = 0.95

# The root mean square of a block's outputs, beyond which float16 and the next block get into trouble.
LARGEST_SCALE, SMALLEST_SCALE = 1e4, 1e-4

# What helps, in words.
REMEDIES = {
    "vanishing": "Train from the head down (--phases='head | gradual'), or take a backbone with normalisation layers and ReLU or GELU activations; random weights of such layers begin well with he_normal.",
    "exploding": "Lower lr by a factor of 3 to 10, or limit the gradients: agc=0.02 of a phase, clipnorm= or global_clipnorm= of --optimizer; a longer warm-up (--schedule='cosine(warmup=0.2)') helps a head that begins at random.",
    "large_updates": "Lower lr: kerasft lr_find suggests one. agc=0.02 of a phase limits each unit.",
    "dead": "Lower lr, or warm it up longer (--schedule='cosine(warmup=0.2)'). In the head, --head='mlp(activation=gelu)' has no dead units.",
    "scale": "Normalise: preprocessing that fits the backbone (--preprocessing), or a head with normalisation='layer'.",
}


@dataclass(frozen=True)
class Verdict:
    """Something that is wrong with a phase.

    Attributes:
        kind: a key of `REMEDIES`.
        blocks: where, from the input on.
        detail: what was measured, and the rule.
        remedy: what helps, in words.
    """

    kind: str
    blocks: tuple[str, ...]
    detail: str
    remedy: str


def verdicts(first: Mapping[str, Any], last: Mapping[str, Any], backoffs: int) -> list[Verdict]:
    """Applies the rules to the measurements of one phase.

    Args:
        first, last: before the first and after the last epoch: `blocks` by name with `gradient`, `update`, `scale`, `dead`
            (None where there is nothing to measure), and `gradient`, the norm over all blocks.
        backoffs: times that training diverged and went on at a lower rate.
    """
    blocks = last["blocks"]
    dead = _dead(first["blocks"], blocks)
    found = [dead, _vanishing(blocks), _exploding(last, backoffs), _large_updates(blocks)]
    # The outputs of a dead block are 0, which is said already. Those of the head have the units of the targets.
    others = {name: row for name, row in blocks.items() if name != HEAD and not (dead and name in dead.blocks)}
    return [verdict for verdict in [*found, _scale(others)] if verdict]


def _verdict(kind: str, blocks: list[str], detail: str) -> Verdict:
    return Verdict(kind, tuple(blocks), detail, REMEDIES[kind])


def _vanishing(blocks: Mapping[str, Any]) -> Verdict | None:
    norms = {name: row["gradient"] for name, row in blocks.items() if row["gradient"] is not None}
    largest = max(norms.values(), default=0.0)
    # Next to a gradient that explodes, any other looks small.
    if not all(map(math.isfinite, norms.values())) or not 0 < largest <= EXPLODED:
        return None
    # Nothing passes through the head on its way to the head.
    lost = [name for name, norm in norms.items() if name != HEAD and norm < VANISHED * largest]
    if not lost:
        return None
    least = min(norms[name] for name in lost)
    detail = f"the gradient is down to {least:.1e}, {least / largest:.1e} of the largest block's (limit {VANISHED:g})"
    return _verdict("vanishing", lost, detail)


def _exploding(last: Mapping[str, Any], backoffs: int) -> Verdict | None:
    norm = last["gradient"]
    if backoffs:
        times = "once" if backoffs == 1 else f"{backoffs} times"
        return _verdict("exploding", [], f"the loss blew up {times}, and training went on at a lower rate")
    if norm is not None and (not math.isfinite(norm) or norm > EXPLODED):
        large = [name for name, row in last["blocks"].items() if not (row["gradient"] or 0) <= EXPLODED]
        return _verdict("exploding", large, f"the norm of the gradient is {norm:.1e} (limit {EXPLODED:g})")
    return None


def _large_updates(blocks: Mapping[str, Any]) -> Verdict | None:
    # A head that begins at 0 changes a lot in its first steps, and should.
    ratios = {
        name: row["update"] for name, row in blocks.items() if name != HEAD and (row["update"] or 0) > LARGEST_UPDATE
    }
    if not ratios:
        return None
    detail = f"a step changed {max(ratios.values()):.0%} of the weights' norm (limit {LARGEST_UPDATE:.0%})"
    return _verdict("large_updates", list(ratios), detail)


def _dead(before: Mapping[str, Any], blocks: Mapping[str, Any]) -> Verdict | None:
    dead = {}
    for name, row in blocks.items():
        share, earlier = row["dead"] or 0.0, (before.get(name) or {}).get("dead") or 0.0
        if share >= ALL_DEAD or (share >= DEAD and share - earlier >= NEWLY_DEAD):
            dead[name] = share
    if not dead:
        return None
    detail = f"up to {max(dead.values()):.0%} of the ReLU units are 0 on every image of a batch (limit {DEAD:.0%})"
    return _verdict("dead", list(dead), detail)


def _scale(blocks: Mapping[str, Any]) -> Verdict | None:
    scales = {name: row["scale"] for name, row in blocks.items() if row["scale"] is not None}
    odd = {name: value for name, value in scales.items() if not SMALLEST_SCALE <= value <= LARGEST_SCALE}
    if not odd:
        return None
    shown = f"{min(odd.values()):.1e} to {max(odd.values()):.1e}"
    limits = f"{SMALLEST_SCALE:g} to {LARGEST_SCALE:g}"
    return _verdict("scale", list(odd), f"the root mean square of the outputs is {shown} (limits {limits})")
