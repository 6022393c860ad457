"""What the audit measures of each decoded image: brightness, contrast, edges, and the lowest frequencies of its parts."""

import functools
from typing import NamedTuple

import numpy as np

# Images are averaged over blocks to about this side. CleanVision judges blur at this side too.
SIDE = 64
# So many frequencies of each axis describe a part of an image, as in pHash (Zauner 2010).
FREQUENCIES = 8
# CleanVision's brightness of a pixel: the root of these shares of the squared channels.
_BRIGHTNESS = np.array([0.241, 0.691, 0.068], np.float32)
# Luma of ITU-R BT.601.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Region(NamedTuple):
    """A part of a square image: height, width and the shift of its centre, as shares of the side."""

    height: float = 1.0
    width: float = 1.0
    down: float = 0.0
    right: float = 0.0


_CROP, _STEP = 0.92, 0.04
# The parts that are described. A slightly cropped copy of an image is like one of the inner parts.
REGIONS = (
    Region(),
    *(Region(_CROP, _CROP, down, right) for down in (-_STEP, 0.0, _STEP) for right in (-_STEP, 0.0, _STEP)),
    Region(0.84, 0.84),
    Region(width=_CROP, right=-_STEP),
    Region(width=_CROP, right=_STEP),
    Region(height=_CROP, down=-_STEP),
    Region(height=_CROP, down=_STEP),
)
# Places in REGIONS of parts of one image and of another that may show the same: a part of one and the whole of the
# other, or opposite parts where one is shifted.
WHOLE = 0
PAIRED_REGIONS = (*((part, WHOLE) for part in range(11)), (11, 12), (13, 14))


class Measures(NamedTuple):
    """Measurements of N images.

    Attributes:
        sizes: int32 [N, 2], width and height of the file; 0 where they are not known.
        brightness: float32 [N, 3] in [0, 1]: 5th percentile, mean and 99th percentile over the pixels.
        contrast: float32 [N], standard deviation of the grey levels (0 to 255).
        edges: float32 [N], variance of the Laplacian of the grey levels.
        descriptors: float16 [N, R, F * F], for each of `REGIONS` its lowest frequencies without the mean, of norm 1, or
            0 for a region without any contrast.
    """

    sizes: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    edges: np.ndarray
    descriptors: np.ndarray

    def take(self, rows: np.ndarray) -> "Measures":
        """Returns the measures of some images."""
        return Measures(*(values[rows] for values in self))


def make_empty(count: int) -> Measures:
    """Returns measures of `count` images, all 0, to be filled in."""
    return Measures(
        np.zeros((count, 2), np.int32),
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
        np.zeros((count, len(REGIONS), FREQUENCIES**2), np.float16),
    )


def measure(images: np.ndarray, into: Measures, rows: list[int]) -> None:
    """Measures images, uint8 [B, S, S, 3], and writes the results into these rows; `sizes` are left alone."""
    pixels = average_blocks(images)
    flat = pixels.reshape(len(pixels), -1, 3)
    bright = np.sqrt(np.square(flat) @ _BRIGHTNESS) / 255
    grey = pixels @ _LUMA
    places = np.round(np.array([0.05, 0.99]) * (bright.shape[1] - 1)).astype(int)
    # Sorting all is several times as fast as a partition: NumPy sorts with vector instructions.
    bright.sort(axis=1)
    into.brightness[rows] = np.stack([bright[:, places[0]], bright.mean(1), bright[:, places[1]]], 1)
    into.contrast[rows] = grey.std((1, 2))
    # The Laplacian of eight neighbours: 9 times a pixel, less the sum of the 3x3 block around it.
    across = grey[:, :-2] + grey[:, 1:-1] + grey[:, 2:]
    blocks = across[:, :, :-2] + across[:, :, 1:-1] + across[:, :, 2:]
    # Pillow's FIND_EDGES, which CleanVision uses, clips to a byte.
    into.edges[rows] = np.clip(9 * grey[:, 1:-1, 1:-1] - blocks, 0, 255).var((1, 2))
    into.descriptors[rows] = _describe(grey)


def average_blocks(images: np.ndarray) -> np.ndarray:
    """Averages uint8 [B, S, S, 3] over square blocks: float32 [B, s, s, 3], with s near `SIDE` or, of smaller ones, S."""
    block = max(1, images.shape[1] // SIDE)
    if block == 1:
        return images.astype(np.float32)
    count = images.shape[1] // block
    side = count * block
    averaged = np.empty((len(images), count, count, 3), np.float32)
    # Image by image, so that what is added stays in the cache of the processor.
    for image, into in zip(images, averaged, strict=True):
        # Rows are added while they are contiguous, then columns channel by channel: steps of three bytes would be slow.
        rows = image[:side, :side].reshape(count, block, side * 3)
        total = rows[:, 0].astype(np.uint32 if block > 16 else np.uint16)
        for row in range(1, block):
            total += rows[:, row]
        total = total.reshape(count, count, block, 3)
        for channel in range(3):
            into[..., channel] = sum(total[..., column, channel] for column in range(block))
    averaged /= block**2
    return averaged


def to_grey(images: np.ndarray) -> np.ndarray:
    """Returns grey levels float32 [B, s, s] of averaged images, uint8 [B, S, S, 3]."""
    return average_blocks(images) @ _LUMA


@functools.lru_cache(256)
def cosines(samples: int, extent: float, shift: float, count: int = FREQUENCIES) -> np.ndarray:
    """Returns the `count` lowest cosines (DCT-II) over a part of an axis: float32 [count, samples], of norm 1, 0 outside.

    Args:
        samples: of the axis.
        extent, shift: length of the part and distance of its middle from the middle of the axis, as shares.
    """
    places = ((np.arange(samples) + 0.5) / samples - 0.5 - shift) / extent + 0.5
    inside = (places > 0) & (places < 1)
    waves = np.cos(np.pi * np.arange(count)[:, np.newaxis] * places) * inside
    # A part may begin within a sample. Without this, the mean of the image would count as a wave.
    waves[1:] -= waves[1:, inside].mean(1, keepdims=True) * inside
    return (waves / np.linalg.norm(waves, axis=1, keepdims=True)).astype(np.float32)


def _describe(grey: np.ndarray) -> np.ndarray:
    """Returns the descriptors float32 [B, R, F * F] of grey levels float32 [B, s, s]."""
    side, found = grey.shape[1], np.empty((len(grey), len(REGIONS), FREQUENCIES**2), np.float32)
    # Parts have few different extents along an axis: each is projected once.
    axes = sorted({(one.height, one.down) for one in REGIONS} | {(one.width, one.right) for one in REGIONS})
    waves = np.concatenate([cosines(side, *axis) for axis in axes])
    projected = waves @ grey @ waves.T
    steps = {axis: slice(FREQUENCIES * index, FREQUENCIES * (index + 1)) for index, axis in enumerate(axes)}
    for index, region in enumerate(REGIONS):
        down, across = steps[region.height, region.down], steps[region.width, region.right]
        found[:, index] = projected[:, down, across].reshape(len(grey), -1)
    found[:, :, 0] = 0
    norms = np.linalg.norm(found, axis=-1, keepdims=True)
    # Less than a grey level of contrast is noise of the encoder.
    return np.where(norms > side, found / np.maximum(norms, 1e-6), 0)
