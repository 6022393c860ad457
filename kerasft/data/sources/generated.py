"""Pictures made by formulas, for pretraining without anybody's photographs (Kataoka et al. 2020, FractalDB).

A class is a formula, its pictures are drawn from it with other strengths, places, colours and grounds. Picture i of
class c is a function of (c, i) alone, made on the fly by numpy and Pillow; glyphs depend on Pillow's own font too.
"""

import io
import math
import re

import numpy as np
from PIL import Image

from kerasft.data.listing import Listing
from kerasft.data.sources.formulas import KINDS, SIDE
from kerasft.settings.errors import UserError

NAMES = tuple(KINDS)
# Pictures in all: the names of more would fill the memory before the first one is drawn.
MOST = 10_000_000


def generated(argument: str) -> Listing:
    """Lists the pictures of `generated:CLASSESxPICTURES`; the kinds take turns, so that any number of classes is a mix.

    Raises:
        UserError: an argument of another form, fewer than two classes, or more than `MOST` pictures.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", argument)
    if not match or int(match[1]) < 2:
        rule = "generated needs CLASSESxPICTURES, such as generated:200x100 (at least 2 classes of 100 pictures each)"
        raise UserError(f"--data: {rule}. Received: 'generated:{argument}'")
    classes, each = (int(number[:9]) for number in match.groups())
    if classes * each > MOST:
        raise UserError(f"--data: at most {MOST:,} pictures can be generated. Received: 'generated:{argument}'")
    names = tuple(f"{label:04d}-{NAMES[label % len(NAMES)]}" for label in range(classes))
    return Listing(
        name="generated",
        task="single_label",
        ids=np.array([f"{name}/{instance:05d}.png" for name in names for instance in range(each)]),
        labels=np.repeat(np.arange(classes, dtype=np.int32), each),
        parts=np.full(classes * each, "", dtype="<U5"),
        classes=names,
        read=lambda index: png(*divmod(index, each)),
    )


def png(label: int, instance: int) -> bytes:
    """Picture `instance` of class `label` as an encoded PNG of SIDE x SIDE pixels."""
    buffer = io.BytesIO()
    Image.fromarray(picture(label, instance)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def picture(label: int, instance: int) -> np.ndarray:
    """Picture `instance` of class `label`, uint8 [SIDE, SIDE, 3]."""
    kind = KINDS[NAMES[label % len(NAMES)]]
    rng = np.random.default_rng((label, instance))
    drawn = kind.draw(kind.formula(label), rng)
    image = drawn if drawn.ndim == 3 else _painted(drawn, rng)
    if rng.random() < 0.4:  # as if enlarged from fewer pixels
        small = (int(math.exp(rng.uniform(math.log(12), math.log(SIDE)))),) * 2
        coarse = Image.fromarray(np.uint8(image)).resize(small, Image.Resampling.BOX)
        image = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    image = image + rng.normal(0, 1, image.shape) * 255 * rng.choice((0, 0, 0.01, 0.04))
    return np.uint8(np.clip(image, 0, 255))


def _painted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask in a colour, or a texture, on another, float [SIDE, SIDE, 3] in 0..255 before noise."""
    ground, ink = _fill(rng), _fill(rng)
    if rng.random() < 0.4:
        ground, ink = (np.repeat(layer.mean(2, keepdims=True), 3, 2) for layer in (ground, ink))
    if np.abs(ground.mean((0, 1)) - ink.mean((0, 1))).max() < 80:  # else the shape could hardly be seen
        ink = ink * 0.2 if ground.mean() > 127 else 255 - 0.2 * ink
    return ground + mask[..., None] * (ink - ground)


def _fill(rng: np.random.Generator) -> np.ndarray:
    """A plain colour, a gradient, or smooth noise between two colours."""
    first, second = rng.uniform(0, 255, (2, 3))
    how = rng.integers(0, 5)
    if how < 2:
        return np.tile(first if how else first.mean() * (rng.random() < 0.5), (SIDE, SIDE, 1)) * np.ones(3)
    if how == 2:
        y, x = np.mgrid[:SIDE, :SIDE] / SIDE
        angle = rng.uniform(0, 2 * math.pi)
        level = 0.5 + 0.5 * (math.cos(angle) * (2 * x - 1) + math.sin(angle) * (2 * y - 1))
    else:
        cells = int(rng.integers(2, 9))
        noise = Image.fromarray(np.uint8(rng.uniform(0, 255, (cells, cells))))
        level = np.asarray(noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255.0
    return first + np.clip(level, 0, 1)[..., None] * (second - first)
