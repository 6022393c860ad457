"""Policies: operations drawn for each picture from the lists of the papers, fused like all others.

What differs from the papers, in all of them: a picture goes through geometry, then tables, then colour matrices,
whatever the order in which they were drawn (among their kind they keep it); Sharpness is left out, for it is none of
these; resampling is bilinear and mirrored past the edges, not nearest and grey; shears are about the centre.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from kerasft.augment import lookup_tables, operations, pixels, ranges
from kerasft.augment.fusion import Operation, Pass, fuse, in_turn

__all__ = ["augmix", "autoaugment", "randaugment", "trivialaugment"]

# What an operation does from the least to the greatest magnitude: degrees, slopes, fractions of the side, factors,
# bits kept, the threshold; or whether it is done at all.
Strengths = Mapping[str, tuple[float, float]]

_ALWAYS = {"identity": (0, 0), "autocontrast": (1, 1), "equalize": (1, 1)}
_MOVES = {  # Cubuk et al. 2019, table 6
    "rotate": (0, 30),
    "shear_x": (0, 0.3),
    "shear_y": (0, 0.3),
    "translate_x": (0, 150 / 331),
    "translate_y": (0, 150 / 331),
}
_AUTOAUGMENT = {  # the same table
    **_ALWAYS,
    **_MOVES,
    "invert": (1, 1),
    "color": (0.1, 1.9),
    "contrast": (0.1, 1.9),
    "posterize": (4, 8),
    "solarize": (0, 256),
}
_RANDAUGMENT = {  # stronger with the magnitude, in either way
    **_ALWAYS,
    **_MOVES,
    "brightness": (1, 1.9),
    "color": (1, 1.9),
    "contrast": (1, 1.9),
    "posterize": (8, 4),
    "solarize": (256, 0),
}
_TRIVIALAUGMENT = {  # Müller and Hutter 2021, table 1, "Wide"
    **_ALWAYS,
    "rotate": (0, 135),
    "shear_x": (0, 0.99),
    "shear_y": (0, 0.99),
    "translate_x": (0, 32 / 224),
    "translate_y": (0, 32 / 224),
    "brightness": (1, 1.99),
    "color": (1, 1.99),
    "contrast": (1, 1.99),
    "posterize": (8, 2),
    "solarize": (256, 0),
}
_AUGMIX = {  # Hendrycks et al. 2020: nothing that is among the corruptions of ImageNet-C
    "autocontrast": (1, 1),
    "equalize": (1, 1),
    "posterize": (4, 0),
    "rotate": (0, 30),
    "solarize": (256, 0),
    "shear_x": (0, 0.3),
    "shear_y": (0, 0.3),
    "translate_x": (0, 1 / 3),
    "translate_y": (0, 1 / 3),
}
_FACTORS = ("brightness", "color", "contrast")
_COUNTED = ("autocontrast", "equalize")
_POINTWISE = ("posterize", "solarize", "invert", *_COUNTED)
# Each pair of (operation, probability, magnitude of 0 to 9) is a sub-policy: Cubuk et al. 2019, table 9, with
# Sharpness (0.4, 7), the first of the 18th, left out.
_IMAGENET = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("identity", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


class Drawn(NamedTuple):
    """Which of a list of operations each picture gets, and how strongly.

    Attributes:
        index: int32 [N], a place in the list, or anything outside of it for none.
        level: float32 [N] in 0..1, of its range.
        up: bool [N], the direction of those that go either way.
    """

    index: tf.Tensor
    level: tf.Tensor
    up: tf.Tensor


def randaugment(n: int = 2, m: float = 9) -> tuple[Operation, ...]:
    """n operations in a row, each one of 13, all at magnitude m (Cubuk et al. 2020, RandAugment).

    The list is identity, autocontrast, equalize, rotate, solarize, color, posterize, contrast, brightness, shear_x,
    shear_y, translate_x, translate_y, all equally likely: the paper's 14 without Sharpness, with AutoAugment's ranges.
    m counts up to 10, as in the paper (and in timm); torchvision's counts up to 30. Factors of colour are 1 + 0.09 m
    or 1 - 0.09 m (the paper's code: 0.1 + 0.18 m). At 0 all but autocontrast and equalize leave the picture as it is.
    See the module for what else differs.

    Args:
        n: how many, 1 to 10.
        m: magnitude, 0 to 10; the paper's greater ones, which go beyond AutoAugment's ranges, are refused.
    """
    level, count = ranges.amount("m", m, 10) / 10, ranges.whole("n", n, 1, 10)

    def draw(u: tf.Tensor) -> Drawn:
        return Drawn(_pick(u[:, 0], len(_RANDAUGMENT)), tf.fill(tf.shape(u)[:1], level), u[:, 1] < 0.5)

    return (_drawn(2, _RANDAUGMENT, draw),) * count


def trivialaugment() -> Operation:
    """One operation of 13 at a random one of 31 magnitudes (Müller and Hutter 2021, TrivialAugment Wide).

    The paper's list and ranges without Sharpness; its 32 pixels of translation are taken of a side of 224. See the
    module for what else differs.
    """

    def draw(u: tf.Tensor) -> Drawn:
        return Drawn(_pick(u[:, 0], len(_TRIVIALAUGMENT)), tf.floor(u[:, 1] * 31) / 30, u[:, 2] < 0.5)

    return _drawn(3, _TRIVIALAUGMENT, draw)


def autoaugment(policy: str = "imagenet") -> Operation:
    """One of 25 sub-policies of two operations, as found on ImageNet (Cubuk et al. 2019, AutoAugment, table 9).

    Each operation is done with its own probability, at its magnitude of 0 to 9 of the ranges of table 6, literally:
    Posterize from 4 to 8 bits and Solarize from 0 to 256 become milder with the magnitude, factors of colour go from
    0.1 to 1.9. (Implementations differ here.) Where the two operations are of different kinds, their order is the fused
    one; one sub-policy holds Sharpness, which is left out. See the module for what else differs.

    Args:
        policy: `imagenet`.
    """
    if policy != "imagenet":
        raise ValueError("policy must be 'imagenet'")
    names = list(_AUTOAUGMENT)

    def step(place: int) -> Operation:
        column = [sub_policy[place] for sub_policy in _IMAGENET]
        index = tf.constant([names.index(name) for name, _, _ in column])
        probability = tf.constant([probability for _, probability, _ in column])
        level = tf.constant([magnitude / 9 for _, _, magnitude in column])

        def draw(u: tf.Tensor) -> Drawn:
            chosen = _pick(u[:, 0], len(_IMAGENET))
            done = u[:, 1 + 2 * place] < tf.gather(probability, chosen)
            found = tf.where(done, tf.gather(index, chosen), -1)
            return Drawn(found, tf.gather(level, chosen), u[:, 2 + 2 * place] < 0.5)

        return _drawn(5, _AUTOAUGMENT, draw)

    return in_turn((step(0), step(1)), shared=5)


def augmix(severity: float = 3, width: int = 3, depth: int = 3) -> Pass:
    """A mean of the picture and of `width` chains of 1 to `depth` operations of 9 (Hendrycks et al. 2020, AugMix).

    The chains are weighted by Dirichlet(1, ..., 1), their sum and the picture by Beta(1, 1), and each operation has a
    level between 0.1 and `severity` of 10, as in the paper; its loss between several views of a picture
    (Jensen-Shannon) is not part of it. Every chain is a pass of its own, so this costs about `width` times what
    `randaugment` does. See the module for what else differs.

    Args:
        severity: greatest level, 0.1 to 10.
        width: number of chains, 1 to 8.
        depth: most operations in a chain, 1 to 8.
    """
    strongest = ranges.amount("severity", severity, 10, 0.1)
    chains, longest = ranges.whole("width", width, 1, 8), ranges.whole("depth", depth, 1, 8)
    taken = 1 + 3 * longest  # draws of a chain

    def step(place: int) -> Operation:
        def draw(u: tf.Tensor) -> Drawn:
            operation, level, up = tf.unstack(u[:, 1 + 3 * place : 4 + 3 * place], axis=1)
            index = tf.where(_pick(u[:, 0], longest) >= place, _pick(operation, len(_AUGMIX)), -1)
            return Drawn(index, ranges.between(level, 0.1, strongest) / 10, up < 0.5)

        return _drawn(taken, _AUGMIX, draw)

    chain = in_turn(tuple(step(place) for place in range(longest)), shared=taken)

    def apply(images: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        *parts, last = tf.split(u, [taken] * chains + [chains + 1], axis=1)
        exponential = -tf.math.log(1 - last[:, :-1]) + 1e-9  # normalised, they are Dirichlet(1, ..., 1)
        weights = exponential / tf.reduce_sum(exponential, axis=1, keepdims=True)
        kept = last[:, -1:]
        mixed = [fuse(images, chain, part) for part in parts]
        return pixels.average(images, mixed, tf.concat([kept, (1 - kept) * weights], axis=1))

    return Pass(chains * taken + chains + 1, apply)


def _pick(u: tf.Tensor, count: int) -> tf.Tensor:
    """int32 [N] in 0..count - 1, all equally likely."""
    return tf.minimum(tf.cast(u * count, tf.int32), count - 1)


def _drawn(draws: int, strengths: Strengths, draw: Callable[[tf.Tensor], Drawn]) -> Operation:
    """The Operation that is, for each picture, what `draw` says of a list.

    All operations of a kind are one formula with parameters that do nothing, but for the one that was drawn.
    """
    names = list(strengths)

    def is_drawn(drawn: Drawn, name: str) -> tf.Tensor:
        return drawn.index == names.index(name) if name in names else tf.zeros_like(drawn.up)

    def value(drawn: Drawn, name: str, neutral: float) -> tf.Tensor:
        """float32 [N]: the operation's own parameter where it was drawn, else the one that does nothing."""
        start, end = strengths.get(name, (neutral, neutral))
        step = (end - start) * drawn.level
        if name in (*_MOVES, *_FACTORS) and start == neutral:
            step = tf.where(drawn.up, step, -step)
        return tf.where(is_drawn(drawn, name), start + step, neutral)

    def geometry(u: tf.Tensor) -> tf.Tensor:
        drawn = draw(u)
        angle = value(drawn, "rotate", 0.0) * (math.pi / 180)
        across, down = value(drawn, "shear_x", 0.0) - tf.sin(angle), value(drawn, "shear_y", 0.0) + tf.sin(angle)
        x, y = 2 * value(drawn, "translate_x", 0.0), 2 * value(drawn, "translate_y", 0.0)
        return operations.affine(tf.cos(angle), across, x, down, tf.cos(angle), y)

    def histogram(u: tf.Tensor) -> tf.Tensor:
        drawn = draw(u)
        return is_drawn(drawn, "autocontrast") | is_drawn(drawn, "equalize")

    def table(u: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        drawn = draw(u)
        bits = tf.cast(tf.round(value(drawn, "posterize", 8.0)), tf.int32)
        threshold = tf.where(is_drawn(drawn, "invert"), 0.0, value(drawn, "solarize", 256.0))
        plain = tf.where((bits < 8)[:, None, None], lookup_tables.posterized(bits), lookup_tables.solarized(threshold))
        stretched = tf.where(is_drawn(drawn, "autocontrast")[:, None, None], lookup_tables.stretched(counts), plain)
        return tf.where(is_drawn(drawn, "equalize")[:, None, None], lookup_tables.equalized(counts), stretched)

    def colour(u: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
        drawn = draw(u)
        factor = value(drawn, "brightness", 1.0) * value(drawn, "contrast", 1.0) * value(drawn, "color", 1.0)
        own = tf.where(is_drawn(drawn, "color")[:, None, None], operations.own_grey(), tf.zeros([1, 3, 4]))
        grey = is_drawn(drawn, "contrast")[:, None, None]
        return operations.blended(factor, tf.where(grey, operations.mean_grey(mean), own))

    forms = {"geometry": (geometry, _MOVES), "colour": (colour, _FACTORS)}
    forms |= {"table": (table, _POINTWISE), "histogram": (histogram, _COUNTED)}
    return Operation(draws, **{form: made for form, (made, its) in forms.items() if set(its) & set(names)})
