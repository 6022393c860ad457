"""The formulas of generated images: five kinds, each with one formula a class, and a function that draws it.

Shapes are drawn at twice the side and then averaged, which smooths their edges.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# The side of every image in pixels.
SIDE = 64
# The side at which shapes are drawn in pixels.
FINE_SIDE = 2 * SIDE
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghijmnqrtuy&@#%?$+=<"


class Kind(NamedTuple):
    """One kind of images.

    Attributes:
        formula: number of the class, counted over all kinds, to what `draw` takes.
        draw: formula and random generator to a mask, float [SIDE, SIDE] in 0..1, or to a colour image, float
            [SIDE, SIDE, 3] in 0..255.
    """

    formula: Callable[[int], Any]
    draw: Callable[[Any, np.random.Generator], np.ndarray]


def _class_rng(label: int) -> np.random.Generator:
    return np.random.default_rng((2**32, label))


@lru_cache(maxsize=4096)
def _contour_class(label: int) -> tuple:
    """Returns a circle or polygon with waves on its radius, as nested rings.

    After radial contours (Kataoka et al. 2022, RCDB) and VisualAtom (Takashima et al. 2023).
    """
    rng = _class_rng(label)
    corners = int(rng.choice((3, 4, 5, 6, 8, 256)))
    waves = [(int(rng.integers(2, 12)), rng.uniform(0, 0.35), rng.uniform(0, 2 * math.pi)) for _ in range(2)]
    rings, filled = int(rng.integers(1, 7)), bool(rng.random() < 0.4)
    return corners, waves, rings, filled, rng.uniform(0.4, 1), rng.uniform(-0.5, 0.5)


def _contour(formula: tuple, rng: np.random.Generator) -> np.ndarray:
    corners, waves, rings, filled, aspect, twist = formula
    angle = np.linspace(0, 2 * math.pi, 128, endpoint=False)
    step = 2 * math.pi / corners
    radius = math.cos(step / 2) / np.cos(angle % step - step / 2)
    for count, height, phase in waves:
        radius = radius + height * rng.uniform(0.8, 1.2) * np.sin(count * angle + phase)
    curve = radius[:, None] * np.stack([np.cos(angle), aspect * np.sin(angle)], 1)
    curve *= rng.uniform(0.5, 0.8) / np.abs(curve).max()
    place = _random_placement(rng)
    mask = Image.new("L", (FINE_SIDE, FINE_SIDE))
    pen = ImageDraw.Draw(mask)
    width = int(rng.integers(1, 6))
    for ring in range(rings):
        scale, turn = 1 - ring / rings, twist * ring
        points = place(scale * curve @ _rotation(turn))
        line = [tuple(point) for point in _to_pixels(points)]
        if filled:
            pen.polygon(line, fill=255 if ring % 2 == 0 else 0)
        else:
            pen.line([*line, line[0]], fill=255, width=width)
    return _halve(mask)


@lru_cache(maxsize=4096)
def _fractal_class(label: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an iterated function system of 2 to 5 affine maps, with singular values as in Anderson and Farrell 2022.

    Returns:
        Matrices [M, 2, 2] and shifts [M, 2].
    """
    rng = _class_rng(label)
    count = int(rng.integers(2, 6))
    # The sum over all maps, with the smaller value doubled, is in (5 + n, 6 + n) / 2: the image is neither dust nor a blob.
    budget = rng.uniform(0.5 * (5 + count), 0.5 * (6 + count))
    values = np.sort(rng.dirichlet(np.full(2 * count, 4.0)).reshape(count, 2), 1)[:, ::-1]
    values *= budget / (values[:, 0] + 2 * values[:, 1]).sum()
    values = np.minimum(values, 0.95)
    maps = []
    for big, small in values:
        signs = rng.choice((-1, 1), 2)
        matrix = _rotation(rng.uniform(-math.pi, math.pi)) * [big * signs[0], small * signs[1]]
        maps.append(matrix @ _rotation(rng.uniform(-math.pi, math.pi)))
    return np.array(maps), rng.uniform(-1, 1, (count, 2))


def _fractal(formula: tuple, rng: np.random.Generator) -> np.ndarray:
    maps, shifts = formula
    maps = maps * rng.uniform(0.92, 1.06, (len(maps), 1, 1))
    columns = np.concatenate([maps.reshape(-1, 4), shifts], 1).T.astype(np.float32)
    x, y, visited = np.float32(0), np.float32(0), []
    # A thousand points take 22 steps at once. The first ten steps are left out: they only approach the attractor.
    for chosen in rng.integers(0, len(maps), (22, 1000)):
        a, b, c, d, e, f = columns[:, chosen]
        x, y = a * x + b * y + e, c * x + d * y + f
        visited.append((x, y))
    points = np.concatenate(visited[10:], 1).T
    points = (points - points.mean(0)) / max(points.std(0).max(), 1e-6) * 0.45
    pixels = _to_pixels(_random_placement(rng)(points), SIDE)
    inside = pixels[((pixels >= 0) & (pixels < SIDE)).all(1)].astype(int)
    counts = np.bincount(inside[:, 1] * SIDE + inside[:, 0], minlength=SIDE * SIDE).reshape(SIDE, SIDE)
    return np.minimum(np.log1p(counts) / math.log(rng.uniform(4, 16)), 1.0)


@lru_cache(maxsize=4096)
def _strokes_class(label: int) -> list[np.ndarray]:
    """Returns a character of no alphabet: 2 to 4 Bezier curves between common points, each [4, 2]."""
    rng = _class_rng(label)
    anchors = rng.uniform(-0.75, 0.75, (5, 2))
    strokes = []
    for _ in range(int(rng.integers(2, 5))):
        ends = anchors[rng.choice(5, 2, replace=False)]
        bends = ends.mean(0) + rng.normal(0, 0.6, (2, 2)) * (rng.random() < 0.75)
        strokes.append(np.clip(np.array([ends[0], *bends, ends[1]]), -0.95, 0.95))
    return strokes


def _strokes(strokes: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    place = _random_placement(rng, turn=0.35)
    mask = Image.new("L", (FINE_SIDE, FINE_SIDE))
    pen = ImageDraw.Draw(mask)
    width = int(rng.integers(4, 15))
    t = np.linspace(0, 1, 16)[:, None]
    for points in strokes:
        a, b, c, d = points + rng.normal(0, 0.06, points.shape)
        curve = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
        line = _to_pixels(place(curve))
        pen.line([tuple(point) for point in line], fill=255, width=width, joint="curve")
        for x, y in (line[0], line[-1]):
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return _halve(mask)


def _glyph_class(label: int) -> str:
    """Returns one printed character, or two where all single ones are used up."""
    number, text = label // len(KINDS), ""
    while True:
        text = CHARACTERS[number % len(CHARACTERS)] + text
        number = number // len(CHARACTERS) - 1
        if number < 0:
            return text


def _glyph(text: str, rng: np.random.Generator) -> np.ndarray:
    font = _font(FINE_SIDE * 3 // 4 // len(text) ** 0.5)
    mask = Image.new("L", (FINE_SIDE, FINE_SIDE))
    ImageDraw.Draw(mask).text(
        (SIDE, SIDE), text, font=font, fill=255, anchor="mm", stroke_width=int(rng.integers(0, 7))
    )
    # For each pixel of the image, this is the place in the mask that it comes from.
    grid = (np.stack(np.meshgrid(*[np.arange(FINE_SIDE)] * 2), -1).reshape(-1, 2) + 0.5) / SIDE - 1
    x, y = np.clip(_to_pixels(_random_placement(rng, turn=0.35, inverse=True)(grid)).astype(int), 0, FINE_SIDE - 1).T
    return _halve(np.asarray(mask)[y, x].reshape(FINE_SIDE, FINE_SIDE))


@lru_cache(maxsize=8)
def _font(size: float) -> ImageFont.FreeTypeFont:
    """Returns the font that Pillow brings along (Aileron, CC0)."""
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def _texture_class(label: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns the spectrum of noise in one to three bands (Gabor filters), a palette, and the hardness of the edges."""
    rng = _class_rng(label)
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE) * SIDE, np.fft.rfftfreq(SIDE) * SIDE, indexing="ij")
    spectrum = np.zeros_like(fx)
    for _ in range(int(rng.integers(1, 4))):
        pitch, angle = math.exp(rng.uniform(math.log(1.5), math.log(20))), rng.uniform(0, math.pi)
        x, y = pitch * math.cos(angle), pitch * math.sin(angle)
        width = pitch * rng.uniform(0.1, 0.6)
        band = np.exp(-((fx - x) ** 2 + (fy - y) ** 2) / (2 * width**2))
        band += np.exp(-((fx + x) ** 2 + (fy + y) ** 2) / (2 * width**2))
        spectrum += rng.uniform(0.3, 1) * band / np.sqrt((band**2).sum())
    return spectrum, rng.uniform(0, 255, (3, 3)), rng.choice((0.5, 2.0, 8.0))


def _texture(formula: tuple, rng: np.random.Generator) -> np.ndarray:
    spectrum, palette, hardness = formula
    noise = np.fft.irfft2(spectrum * np.fft.rfft2(rng.normal(size=(SIDE, SIDE))), (SIDE, SIDE))
    level = np.tanh(hardness * noise / noise.std()) * 0.5 + 0.5
    first, second, third = np.clip(palette + rng.normal(0, 25, (3, 3)), 0, 255)
    blend = level[..., None]
    return first * (1 - blend) ** 2 + second * 2 * blend * (1 - blend) + third * blend**2


def _random_placement(
    rng: np.random.Generator, turn: float = math.pi, inverse: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a random rotation, scaling, shear, shift and smooth warp, as a function of points [N, 2] in -1..1."""
    scales = np.exp(rng.uniform(-0.2, 0.2, 2)) * rng.uniform(0.75, 1.3)
    matrix = _rotation(rng.uniform(-turn, turn)) @ np.diag(scales) @ np.array([[1, rng.uniform(-0.3, 0.3)], [0, 1]])
    shift, (ax, ay) = rng.uniform(-0.2, 0.2, 2), rng.uniform(0, 0.08, 2)
    pitch, phase = rng.uniform(2, 5, 2), rng.uniform(0, 2 * math.pi, 2)

    def warp(points: np.ndarray) -> np.ndarray:
        x, y = points.T
        return points + np.stack([ax * np.sin(pitch[0] * y + phase[0]), ay * np.sin(pitch[1] * x + phase[1])], 1)

    if inverse:
        back = np.linalg.inv(matrix).T
        return lambda points: warp((points - shift) @ back)
    return lambda points: warp(points) @ matrix.T + shift


def _rotation(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _to_pixels(points: np.ndarray, side: int = FINE_SIDE) -> np.ndarray:
    return (points + 1) * side / 2


def _halve(mask: Image.Image | np.ndarray) -> np.ndarray:
    fine = np.asarray(mask, np.float32)
    return fine.reshape(SIDE, 2, SIDE, 2).mean((1, 3)) / 255


KINDS = {
    "contour": Kind(_contour_class, _contour),
    "fractal": Kind(_fractal_class, _fractal),
    "glyph": Kind(_glyph_class, _glyph),
    "strokes": Kind(_strokes_class, _strokes),
    "texture": Kind(_texture_class, _texture),
}
