"""Whether maps explain an answer: deletion and insertion (Petsiuk, Das and Saenko 2018, RISE), against random maps.

Deletion takes away the pixels that a map marks first. Insertion shows them first, on a blurred image. A map that explains the
answer makes its score fall early, and rise early. Both are areas under the curve of the score by the share of pixels, and
need no labels and no training.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from kerasft.evaluation import intervals

# Steps from no pixel to all of them.
STEPS = 8
# Random maps for each image.
RANDOM_MAPS = 3
# Standard deviation of the blur, in sides of the image. What the image shows cannot be told any more.
BLUR = 1 / 16
# A smaller difference of the means does not count: a network with random weights has maps that are right, and say nothing.
MIN_DIFFERENCE = 0.02
# Weight of the random tie-break between equal pixels, as a share of the map's maximum.
TIE = 1e-5
# Images that are scored at once.
BATCH_SIZE = 64

# From images float32 [B, S, S, 3], and the number of the original of each int [B], to the score of its answer, float [B].
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Areas(NamedTuple):
    """Areas under the curves of each image, float64 [N].

    Attributes:
        deletion: lower is better.
        insertion: higher is better.
    """

    deletion: np.ndarray
    insertion: np.ndarray


class Difference(NamedTuple):
    """A mean over images for maps and for what they are compared with.

    Attributes:
        maps, others: the means.
        value: the mean of the differences, maps less others.
        low, high: its 95 % interval, of Student's distribution over images; NaN for fewer than two images.
    """

    maps: float
    others: float
    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Maps against others, by both areas.

    Attributes:
        deletion, insertion: the differences.
    """

    deletion: Difference
    insertion: Difference

    @property
    def verdict(self) -> str:
        """`better` where both differences count, `partly` for one, else `no_better`."""
        better = is_measurable(self.deletion.value, self.deletion.low, self.deletion.high, -1)
        better += is_measurable(self.insertion.value, self.insertion.low, self.insertion.high, 1)
        return ("no_better", "partly", "better")[better]


def is_measurable(value: float, low: float | None, high: float | None, sign: int) -> bool:
    """Whether a difference and its interval lie on the side of the sign, the difference by at least `MIN_DIFFERENCE`."""
    return None not in (low, high) and sign * value >= MIN_DIFFERENCE and min(sign * low, sign * high) > 0


def areas(score: Score, images: np.ndarray, maps: np.ndarray, steps: int = STEPS) -> Areas:
    """Measures maps of images.

    Args:
        score: of the network.
        images: float32 [N, S, S, 3].
        maps: float [N, M, G, G], M maps of each image. Their order counts, not their scale.
        steps: from no pixel to all of them.

    Returns:
        Areas whose arrays are [N, M].
    """
    count, many = maps.shape[:2]
    curves = np.empty((2, count, many, steps + 1))
    rows, places = [], []

    def flush() -> None:
        found = score(np.stack(rows), np.array([place[1] for place in places]))
        for (kind, image, which, step), value in zip(places, found):
            curves[kind, image, which, step] = value
        rows.clear()
        places.clear()

    for place, pixels in _variants(images, maps, steps):
        rows.append(pixels)
        places.append(place)
        if len(rows) == BATCH_SIZE:
            flush()
    if rows:
        flush()
    return Areas(*(np.trapezoid(curve, dx=1 / steps, axis=-1) for curve in curves))


def _variants(
    images: np.ndarray, maps: np.ndarray, steps: int
) -> Iterator[tuple[tuple[int, int, slice | int, int], np.ndarray]]:
    """Yields each image with some of its pixels, and where its score belongs: deletion or insertion, image, map, step."""
    size, parts = images.shape[1], np.linspace(0, images.shape[1] ** 2, steps + 1).astype(int)
    for index, image in enumerate(images):
        mean, blurred = np.broadcast_to(image.mean((0, 1)), image.shape), blur(image)
        # Without pixels and with all of them, an image is the same for every map.
        for kind, step, pixels in ((0, 0, image), (0, steps, mean), (1, 0, blurred), (1, steps, image)):
            yield (kind, index, slice(None), step), pixels
        drawn = enlarge(np.random.default_rng(index).random((7, 7)), size)
        for which, one in enumerate(maps[index]):
            order, deleted, inserted = _order(enlarge(one, size), drawn), image.copy(), blurred.copy()
            for step in range(1, steps):
                rows, columns = np.divmod(order[parts[step - 1] : parts[step]], size)
                deleted[rows, columns], inserted[rows, columns] = mean[0, 0], image[rows, columns]
                yield (0, index, which, step), deleted.copy()
                yield (1, index, which, step), inserted.copy()


def _order(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The pixels of a map [S, S] in falling order, int [S * S]. Of equal ones, such as zeros, smooth patches are drawn."""
    most = values.max()
    return np.argsort(-(values / most if most > 0 else values) - TIE * drawn, axis=None)


def enlarge(values: np.ndarray, size: int) -> np.ndarray:
    """A map [G, G], bilinearly enlarged to float32 [S, S]."""
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR))


def blur(image: np.ndarray) -> np.ndarray:
    """An image [S, S, 3] in 0..255, blurred; float32."""
    pixels = Image.fromarray(np.uint8(np.clip(image + 0.5, 0, 255)))
    blurred = pixels.filter(ImageFilter.GaussianBlur(BLUR * len(image)))
    return np.array(blurred, np.float32)


def random_maps(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Random maps float64 [N, RANDOM_MAPS, G, G]. Enlarged, they are as smooth as maps of so many places a side."""
    return np.random.default_rng(seed).random((count, RANDOM_MAPS, side, side))


def compare(maps: Areas, others: Areas) -> Comparison:
    """Compares the areas [N] of maps with those of others for the same images."""
    return Comparison(*(difference(first, second) for first, second in zip(maps, others)))


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The mean of the paired differences, first less second, float [N] each, with its 95 % interval."""
    from scipy.stats import t

    gaps = first - second
    value, n = float(gaps.mean()), len(gaps)
    half = float(t.ppf(0.975, n - 1)) * intervals.standard_error(gaps) if n > 1 else np.nan
    return Difference(float(first.mean()), float(second.mean()), value, value - half, value + half)
