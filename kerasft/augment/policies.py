"""Policies: each image gets random operations from the list of a paper, fused as all operations are.

All policies differ from the papers in this: Geometry comes before tables, and tables before colour matrices, whatever the
order in which they were drawn; operations of one form keep their order. Sharpness is left out, because it is none of these.
Resampling is bilinear and mirrors the edges; in the papers it is nearest and fills with grey. Shears are about the centre.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from kerasft.augment import lookup_tables, operations, pixels, ranges
from kerasft.augment.fusion import Operation, Pass, compose, fuse

__all__ = ["augmix", "autoaugment", "randaugment", "trivialaugment"]

# The parameter of each operation at the smallest and the largest magnitude: degrees, slopes, fractions of the side,
# factors, bits kept, thresholds; or whether it is applied at all.
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
_NEED_HISTOGRAM = ("autocontrast", "equalize")
_POINTWISE = ("posterize", "solarize", "invert", *_NEED_HISTOGRAM)
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


class DrawnOperation(NamedTuple):
    """The operation of a list that each image gets, and its strength.

    Attributes:
        index: int32 [N], an index of the list; -1 for no operation.
        level: float32 [N] in 0..1, a place in the range of the operation.
        up: bool [N], the direction of operations that have two.
    """

    index: tf.Tensor
    level: tf.Tensor
    up: tf.Tensor


def randaugment(n: int = 2, m: float = 9) -> tuple[Operation, ...]:
    """Applies n operations of 13 in a row, all at magnitude m (Cubuk et al. 2020, RandAugment).

    The list is identity, autocontrast, equalize, rotate, solarize, color, posterize, contrast, brightness, shear_x,
    shear_y, translate_x, translate_y, all equally likely: the paper's 14 without Sharpness, with AutoAugment's ranges.
    m goes up to 10, as in the paper (and in timm); torchvision's goes up to 30. Factors of colour are 1 + 0.09 m or
    1 - 0.09 m (in the code of the paper: 0.1 + 0.18 m). At 0, all but autocontrast and equalize change nothing.
    The docstring of the module says what else differs.

    Args:
        n: number of operations, 1 to 10.
        m: magnitude, 0 to 10. The larger ones of the paper exceed AutoAugment's ranges and are refused.
    """
    level, count = ranges.check_number("m", m, 10) / 10, ranges.check_integer("n", n, 1, 10)

    def draw(u: tf.Tensor) -> DrawnOperation:
        return DrawnOperation(_pick(u[:, 0], len(_RANDAUGMENT)), tf.fill(tf.shape(u)[:1], level), u[:, 1] < 0.5)

    return (_random_operation(2, _RANDAUGMENT, draw),) * count


def trivialaugment() -> Operation:
    """Applies one operation of 13 at one of 31 magnitudes (Müller and Hutter 2021, TrivialAugment Wide).

    List and ranges are those of the paper, without Sharpness; its translation by 32 pixels is taken as 32/224 of the side.
    The docstring of the module says what else differs.
    """

    def draw(u: tf.Tensor) -> DrawnOperation:
        return DrawnOperation(_pick(u[:, 0], len(_TRIVIALAUGMENT)), tf.floor(u[:, 1] * 31) / 30, u[:, 2] < 0.5)

    return _random_operation(3, _TRIVIALAUGMENT, draw)


def autoaugment(policy: str = "imagenet") -> Operation:
    """Applies one of 25 sub-policies of two operations, as found on ImageNet (Cubuk et al. 2019, AutoAugment, table 9).

    Each operation is applied with its own probability, at its magnitude of 0 to 9 in the ranges of table 6. These are taken
    literally: Posterize from 4 to 8 bits and Solarize from 0 to 256 become milder with the magnitude, factors of colour
    go from 0.1 to 1.9. (Implementations differ here.) One sub-policy holds Sharpness, which is left out. The docstring
    of the module says what else differs.

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

        def draw(u: tf.Tensor) -> DrawnOperation:
            chosen = _pick(u[:, 0], len(_IMAGENET))
            is_applied = u[:, 1 + 2 * place] < tf.gather(probability, chosen)
            return DrawnOperation(
                tf.where(is_applied, tf.gather(index, chosen), -1), tf.gather(level, chosen), u[:, 2 + 2 * place] < 0.5
            )

        return _random_operation(5, _AUTOAUGMENT, draw)

    return compose((step(0), step(1)), shared_draws=5)


def augmix(severity: float = 3, width: int = 3, depth: int = 3) -> Pass:
    """Averages the image and `width` chains of 1 to `depth` operations of 9 (Hendrycks et al. 2020, AugMix).

    As in the paper, the chains are weighted by Dirichlet(1, ..., 1), their sum and the image by Beta(1, 1), and each
    operation has a level between 0.1 and `severity` of 10. The Jensen-Shannon loss of the paper is not part of it. Every
    chain is a pass of its own, so this takes about `width` times as long as `randaugment`. The docstring of the module
    says what else differs.

    Args:
        severity: largest level, 0.1 to 10.
        width: number of chains, 1 to 8.
        depth: largest number of operations in a chain, 1 to 8.
    """
    strongest = ranges.check_number("severity", severity, 10, 0.1)
    chains, longest = ranges.check_integer("width", width, 1, 8), ranges.check_integer("depth", depth, 1, 8)
    chain_draws = 1 + 3 * longest

    def step(place: int) -> Operation:
        def draw(u: tf.Tensor) -> DrawnOperation:
            operation, level, up = tf.unstack(u[:, 1 + 3 * place : 4 + 3 * place], axis=1)
            index = tf.where(_pick(u[:, 0], longest) >= place, _pick(operation, len(_AUGMIX)), -1)
            return DrawnOperation(index, ranges.scale(level, 0.1, strongest) / 10, up < 0.5)

        return _random_operation(chain_draws, _AUGMIX, draw)

    chain = compose(tuple(step(place) for place in range(longest)), shared_draws=chain_draws)

    def apply(images: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        *columns, last = tf.split(u, [chain_draws] * chains + [chains + 1], axis=1)
        # Exponential numbers, divided by their sum, are Dirichlet(1, ..., 1).
        exponential = -tf.math.log(1 - last[:, :-1]) + 1e-9
        weights = exponential / tf.reduce_sum(exponential, axis=1, keepdims=True)
        own = last[:, -1:]
        augmented = [fuse(images, chain, draws) for draws in columns]
        return pixels.average(images, augmented, tf.concat([own, (1 - own) * weights], axis=1))

    return Pass(chains * chain_draws + chains + 1, apply)


def _pick(u: tf.Tensor, count: int) -> tf.Tensor:
    """Returns int32 [N] in 0..count - 1, all equally likely."""
    return tf.minimum(tf.cast(u * count, tf.int32), count - 1)


def _random_operation(draws: int, strengths: Strengths, draw: Callable[[tf.Tensor], DrawnOperation]) -> Operation:
    """Returns the Operation that applies to each image the operation of a list that `draw` chooses.

    All operations of a form are one formula. The parameters of those that were not chosen are neutral.

    Args:
        draws: how many random numbers `draw` needs for each image.
        strengths: the list, with the range of each operation.
        draw: random numbers, float32 [N, draws], to a DrawnOperation.
    """
    names = list(strengths)

    def is_chosen(choice: DrawnOperation, name: str) -> tf.Tensor:
        return choice.index == names.index(name) if name in names else tf.zeros_like(choice.up)

    def value(choice: DrawnOperation, name: str, neutral: float) -> tf.Tensor:
        """Returns float32 [N], the parameter of an operation where it is chosen, else the neutral one."""
        start, end = strengths.get(name, (neutral, neutral))
        step = (end - start) * choice.level
        if name in (*_MOVES, *_FACTORS) and start == neutral:
            step = tf.where(choice.up, step, -step)
        return tf.where(is_chosen(choice, name), start + step, neutral)

    def geometry(u: tf.Tensor) -> tf.Tensor:
        choice = draw(u)
        angle = value(choice, "rotate", 0.0) * (math.pi / 180)
        across, down = value(choice, "shear_x", 0.0) - tf.sin(angle), value(choice, "shear_y", 0.0) + tf.sin(angle)
        x, y = 2 * value(choice, "translate_x", 0.0), 2 * value(choice, "translate_y", 0.0)
        return operations.affine(tf.cos(angle), across, x, down, tf.cos(angle), y)

    def histogram(u: tf.Tensor) -> tf.Tensor:
        choice = draw(u)
        return is_chosen(choice, "autocontrast") | is_chosen(choice, "equalize")

    def table(u: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        choice = draw(u)
        bits = tf.cast(tf.round(value(choice, "posterize", 8.0)), tf.int32)
        threshold = tf.where(is_chosen(choice, "invert"), 0.0, value(choice, "solarize", 256.0))
        plain = tf.where((bits < 8)[:, None, None], lookup_tables.posterize(bits), lookup_tables.solarize(threshold))
        contrasted = tf.where(
            is_chosen(choice, "autocontrast")[:, None, None], lookup_tables.autocontrast(counts), plain
        )
        return tf.where(is_chosen(choice, "equalize")[:, None, None], lookup_tables.equalize(counts), contrasted)

    def colour(u: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
        choice = draw(u)
        factor = value(choice, "brightness", 1.0) * value(choice, "contrast", 1.0) * value(choice, "color", 1.0)
        own = tf.where(is_chosen(choice, "color")[:, None, None], operations.own_grey(), tf.zeros([1, 3, 4]))
        grey = is_chosen(choice, "contrast")[:, None, None]
        return operations.blend(factor, tf.where(grey, operations.mean_grey(mean), own))

    forms = {"geometry": (geometry, _MOVES), "colour": (colour, _FACTORS)}
    forms |= {"table": (table, _POINTWISE), "histogram": (histogram, _NEED_HISTOGRAM)}
    return Operation(draws, **{form: make for form, (make, of_form) in forms.items() if set(of_form) & set(names)})
