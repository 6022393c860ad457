"""Encoded images to the pixels that the network was trained on. It needs numpy and Pillow, and nothing of kerasft.

It does what kerasft's own decoder does: a JPEG is read at a half, a quarter or an eighth where enough pixels remain, turned
upright by its EXIF orientation, made square, and resized. Decoders round differently, so pixels differ by a few
levels; `proof.json` says what that does to the answers.
"""

import io

import numpy as np
from PIL import Image, ImageOps

# The grey of the bars under the framing `pad`.
PADDING = 114


def decode(contents: bytes, size: int, framing: str) -> np.ndarray:
    """Decodes an image.

    Args:
        contents: an encoded JPEG, PNG, GIF (first frame), BMP or WebP.
        size: side of the returned image in pixels, S.
        framing: `crop`, `pad` or `squash`.

    Returns:
        float32 [S, S, 3], RGB, whole numbers in 0..255.
    """
    with Image.open(io.BytesIO(contents)) as image:
        if image.format == "JPEG":
            side = (max if framing == "pad" else min)(image.size)
            ratio = max((one for one in (1, 2, 4, 8) if side >= one * size), default=1)
            image.draft(None, tuple(length // ratio for length in image.size))
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            # 16 bits a pixel.
            grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255)
            pixels = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
        else:
            pixels = np.asarray(image.convert("RGB"))
    return np.floor(_frame(pixels, size, framing) + 0.5).clip(0, 255).astype(np.float32)


def _frame(pixels: np.ndarray, size: int, framing: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    if framing == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _resize(pixels[top : top + side, left : left + side], size, size)
    if framing == "squash":
        return _resize(pixels, size, size)
    longer = max(height, width)
    rows, columns = (max((2 * size * length + longer) // (2 * longer), 1) for length in (height, width))
    square = np.full((size, size, 3), float(PADDING))
    top, left = (size - rows) // 2, (size - columns) // 2
    square[top : top + rows, left : left + columns] = _resize(pixels, rows, columns)
    return square


def _resize(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resizes each axis by area where it shrinks to less than half, else bilinearly."""
    vertical, horizontal = _weights(pixels.shape[0], rows), _weights(pixels.shape[1], columns)
    # [rows, H] x [H, W, 3], then [columns, W] x [rows, W, 3].
    return np.einsum(
        "cw,rwk->rck", horizontal, np.einsum("rh,hwk->rwk", vertical, pixels, optimize=True), optimize=True
    )


def _weights(length: int, target: int) -> np.ndarray:
    """The weight of each pixel [length] in each pixel of the result [target], float32 [target, length]."""
    if length > 2 * target:
        edges = np.arange(target + 1) * (length / target)
        starts, ends = edges[:-1, np.newaxis], edges[1:, np.newaxis]
        pixel = np.arange(length)
        covered = np.minimum(ends, pixel + 1) - np.maximum(starts, pixel)
        weights = covered.clip(0)
        return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    centres = (np.arange(target) + 0.5) * (length / target) - 0.5
    lower = np.floor(centres).astype(int)
    fraction = centres - lower
    weights = np.zeros((target, length), np.float32)
    rows = np.arange(target)
    np.add.at(weights, (rows, lower.clip(0, length - 1)), 1 - fraction)
    np.add.at(weights, (rows, (lower + 1).clip(0, length - 1)), fraction)
    return weights
