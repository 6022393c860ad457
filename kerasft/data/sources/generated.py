"""The generated source: images drawn from formulas, for pretraining without photographs (Kataoka et al. 2020, FractalDB).

A class is a formula. Its images differ in strengths, positions, colours and backgrounds. Image i of class c is a function of
(c, i) alone, which numpy and Pillow compute when it is read. Glyphs also depend on the font that Pillow brings along.
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
# At most so many images are generated. The names of more would fill the memory before the first image is drawn.
MAX_IMAGES = 10_000_000


def list_generated(argument: str) -> Listing:
    """Lists the images of `generated:CLASSESxIMAGES`. The kinds of formulas take turns, class by class.

    Raises:
        UserError: an argument of another form, fewer than two classes, or more than `MAX_IMAGES` images.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", argument)
    if not match or int(match[1]) < 2:
        rule = "generated needs CLASSESxIMAGES, such as generated:200x100 (200 classes of 100 images each; at least 2 classes)"
        raise UserError(f"--data: {rule}. Received: 'generated:{argument}'")
    classes, per_class = (int(number[:9]) for number in match.groups())
    if classes * per_class > MAX_IMAGES:
        raise UserError(f"--data: at most {MAX_IMAGES:,} images can be generated. Received: 'generated:{argument}'")
    names = tuple(f"{label:04d}-{NAMES[label % len(NAMES)]}" for label in range(classes))
    return Listing(
        name="generated",
        task="single_label",
        ids=np.array([f"{name}/{instance:05d}.png" for name in names for instance in range(per_class)]),
        labels=np.repeat(np.arange(classes, dtype=np.int32), per_class),
        split_names=np.full(classes * per_class, "", dtype="<U5"),
        classes=names,
        read=lambda index: encode_png(*divmod(index, per_class)),
    )


def encode_png(label: int, instance: int) -> bytes:
    """Returns image `instance` of class `label` as an encoded PNG of SIDE x SIDE pixels."""
    buffer = io.BytesIO()
    Image.fromarray(draw_image(label, instance)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def draw_image(label: int, instance: int) -> np.ndarray:
    """Returns image `instance` of class `label`, uint8 [SIDE, SIDE, 3]."""
    kind = KINDS[NAMES[label % len(NAMES)]]
    rng = np.random.default_rng((label, instance))
    drawn = kind.draw(kind.formula(label), rng)
    image = drawn if drawn.ndim == 3 else _paint(drawn, rng)
    if rng.random() < 0.4:  # these images look as if enlarged from fewer pixels
        small = (int(math.exp(rng.uniform(math.log(12), math.log(SIDE)))),) * 2
        coarse = Image.fromarray(np.uint8(image)).resize(small, Image.Resampling.BOX)
        image = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    image = image + rng.normal(0, 1, image.shape) * 255 * rng.choice((0, 0, 0.01, 0.04))
    return np.uint8(np.clip(image, 0, 255))


def _paint(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paints a mask with one colour or texture on another, float [SIDE, SIDE, 3] in 0..255 before noise."""
    ground, ink = _fill(rng), _fill(rng)
    if rng.random() < 0.4:
        ground, ink = (np.repeat(layer.mean(2, keepdims=True), 3, 2) for layer in (ground, ink))
    # Without this contrast, the shape could hardly be seen.
    if np.abs(ground.mean((0, 1)) - ink.mean((0, 1))).max() < 80:
        ink = ink * 0.2 if ground.mean() > 127 else 255 - 0.2 * ink
    return ground + mask[..., None] * (ink - ground)


def _fill(rng: np.random.Generator) -> np.ndarray:
    """Returns a plain colour, a gradient, or smooth noise between two colours, float [SIDE, SIDE, 3]."""
    first, second = rng.uniform(0, 255, (2, 3))
    kind = rng.integers(0, 5)
    if kind < 2:
        return np.tile(first if kind else first.mean() * (rng.random() < 0.5), (SIDE, SIDE, 1)) * np.ones(3)
    if kind == 2:
        y, x = np.mgrid[:SIDE, :SIDE] / SIDE
        angle = rng.uniform(0, 2 * math.pi)
        level = 0.5 + 0.5 * (math.cos(angle) * (2 * x - 1) + math.sin(angle) * (2 * y - 1))
    else:
        cells = int(rng.integers(2, 9))
        noise = Image.fromarray(np.uint8(rng.uniform(0, 255, (cells, cells))))
        level = np.asarray(noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255.0
    return first + np.clip(level, 0, 1)[..., None] * (second - first)
