"""Encoded images to the pixels that the network was trained on. It needs numpy and Pillow, and nothing of kerasft.

It does what kerasft's own decoder does: a JPEG is read at a half, a quarter or an eighth where enough pixels remain, turned
upright by its EXIF orientation, made square, and resized. Decoders round differently, so pixels differ by a few
levels; `proof.json` says what that does to the answers.
"""

import io
import struct

import numpy as np
from PIL import Image, ImageChops, ImageSequence

# What is read.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")

# How an image is turned upright, by its EXIF orientation (EXIF 2.32, 4.6.4).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# At most so many JPEG segments are searched for the EXIF block.
MAX_SEGMENTS = 64

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
    with Image.open(io.BytesIO(contents), formats=FORMATS) as image:
        # A phone's JPEG may hold further pictures.
        if image.format in ("JPEG", "MPO"):
            side = (max if framing == "pad" else min)(image.size)
            ratio = max((one for one in (1, 2, 4, 8) if side >= one * size), default=1)
            image.draft(None, tuple(max(length // ratio, 1) for length in image.size))
            if (orientation := _read_orientation(contents)) in TURNS:
                image = image.transpose(TURNS[orientation])
        if image.mode.startswith("I"):
            # 16 bits a pixel.
            grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255)
            pixels = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
        elif image.format == "GIF":
            pixels = _read_first_frame(image)
        else:
            # Pillow takes every JPEG of four colours for one of Adobe, whose numbers are inverted.
            if image.mode == "CMYK" and "adobe" not in image.info:
                image = ImageChops.invert(image)
            pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    # Every pixel is a mean, so none leaves 0..255.
    return np.floor(_frame(pixels, size, framing) + np.float32(0.5)).astype(np.float32, copy=False)


def _read_first_frame(image: Image.Image) -> np.ndarray:
    """The first frame of a GIF as TensorFlow draws it: on black, on a canvas as large as the largest frame; [H, W, 3]."""
    pixels = np.asarray(image.convert("RGBA"))
    pixels = np.where(pixels[:, :, 3:], pixels[:, :, :3], np.uint8(0))
    box = image.dispose_extent
    if box == (0, 0, *image.size):
        return pixels
    boxes = [box, *(frame.dispose_extent for frame in ImageSequence.Iterator(image))]
    height, width = (max(one[end] - one[end - 2] for one in boxes) for end in (3, 2))
    canvas = np.zeros((height, width, 3), np.uint8)
    rows, columns = slice(box[1], min(box[3], height)), slice(box[0], min(box[2], width))
    canvas[rows, columns] = pixels[rows, columns]
    return canvas


def _read_orientation(contents: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1 where the EXIF block is missing or broken.

    These are the rules of kerasft's decoder. `ImageOps.exif_transpose` of Pillow knows more, such as XMP, and so would turn
    images that the network was trained on as they are.
    """
    place = 2
    for _ in range(MAX_SEGMENTS):
        head = contents[place : place + 10]
        if head[:2] == b"\xff\xe1" and head[4:] == b"Exif\0\0":
            try:
                return _read_tiff_orientation(contents[place + 10 :])
            except struct.error:
                return 1
        # APP0 to APP15 and comments may stand before the EXIF block.
        if len(head) < 4 or head[0] != 0xFF or not (head[1] & 0xF0 == 0xE0 or head[1] == 0xFE):
            break
        place += 2 + int.from_bytes(head[2:4], "big")
    return 1


def _read_tiff_orientation(tiff: bytes) -> int:
    order = "<" if tiff[:1] == b"I" else ">"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    found = 0
    for entry in range(min(count, 65536 // 12)):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
        # A number of 16 bits.
        if (tag, kind) == (0x0112, 3):
            found = max(found, value)
    return found if 1 <= found <= 8 else 1


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
    """Resizes each axis by area where it shrinks to less than half, else bilinearly; float32 [rows, columns, 3]."""
    targets = rows, columns
    # The axis that shrinks most goes first, which leaves the least to do.
    for axis in sorted((0, 1), key=lambda axis: targets[axis] / pixels.shape[axis]):
        pixels = _resize_axis(pixels, targets[axis], axis)
    return pixels


def _resize_axis(pixels: np.ndarray, target: int, axis: int) -> np.ndarray:
    positions, weights = _taps(pixels.shape[axis], target)
    shape = (target, pixels.shape[1], 3) if axis == 0 else (pixels.shape[0], target, 3)
    if axis == 0:
        weights = weights[:, :, np.newaxis]
    else:
        # Columns of single numbers: NumPy gathers them faster than columns of three.
        positions = (3 * positions[:, :, np.newaxis] + np.arange(3)).reshape(len(positions), -1)
        weights = np.repeat(weights, 3, axis=1)
    flat, total = pixels.reshape(pixels.shape[0], -1), np.float32(0)
    # A pixel of the result is a sum of a few pixels: two, or as many as it covers.
    for chosen, factors in zip(positions, weights):
        total = total + np.take(flat, chosen, axis) * factors
    return total.reshape(shape)


def _taps(length: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that each pixel of the result is made of, int [T, target], and their weights, float32 [T, target]."""
    if length > 2 * target:
        edges = np.arange(target + 1) * (length / target)
        starts, ends = edges[:-1], edges[1:]
        first = np.floor(starts).astype(int)
        positions = first + np.arange(int(np.ceil(length / target)) + 1)[:, np.newaxis]
        weights = (np.minimum(ends, positions + 1) - np.maximum(starts, positions)).clip(0)
        weights /= weights.sum(0)
    else:
        centres = (np.arange(target) + 0.5) * (length / target) - 0.5
        lower = np.floor(centres).astype(int)
        positions, weights = np.stack([lower, lower + 1]), np.stack([lower + 1 - centres, centres - lower])
    return positions.clip(0, length - 1), weights.astype(np.float32)
