"""Corruptions of images at five strengths, to measure how much of its accuracy a network keeps.

After Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(ImageNet-C). Noise, blur, JPEG, brightness and contrast have its values; blur is in proportion to the side of the image, for
which it has 224 pixels. Occlusion, rotation and scale are not in it.

A corruption is one function. Its random numbers depend on the seed, the file and the corruption only, so the strengths of one
image differ in strength alone.
"""

import io
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

# A function from an image, uint8 [S, S, 3] RGB, a value and random numbers to another image of the same form.
Apply = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

# The side of an image for which the widths of blur are given.
REFERENCE_SIDE = 224


class Corruption(NamedTuple):
    """A corruption.

    Attributes:
        apply: the function.
        values: its values at the strengths 1 to 5.
        meaning: what a value is.
    """

    apply: Apply
    values: tuple[float, float, float, float, float]
    meaning: str


def corrupt(name: str, image: np.ndarray, strength: int, seed: int, file: str) -> np.ndarray:
    """Returns an image under a corruption.

    Args:
        name: of `CORRUPTIONS`.
        image: uint8 [S, S, 3], RGB.
        strength: 0 (the image itself) to 5.
        seed, file: of the random numbers.

    Returns:
        uint8 [S, S, 3].
    """
    if strength == 0:
        return image.copy()
    found = CORRUPTIONS[name]
    rng = np.random.default_rng([seed, *(zlib.crc32(text.encode("utf-8", "replace")) for text in (file, name))])
    return found.apply(image, found.values[strength - 1], rng)


def gaussian_noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Adds normal noise to each channel of each pixel; its deviation is a share of the full range."""
    return _to_pixels(image / 255 + deviation * rng.standard_normal(image.shape))


def gaussian_blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blurs with a Gaussian whose deviation is `sigma` pixels of an image of 224."""
    from scipy.ndimage import gaussian_filter

    width = sigma * image.shape[0] / REFERENCE_SIDE
    return _to_pixels(gaussian_filter(image / 255, (width, width, 0), mode="nearest"))


def jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Encodes as a JPEG of this quality and decodes again."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(quality))
    with Image.open(file) as decoded:
        return np.asarray(decoded.convert("RGB"))


def brightness(image: np.ndarray, change: float, rng: np.random.Generator) -> np.ndarray:
    """Adds to the value of the HSV colour, which is the greatest of the three channels."""
    pixels = image / 255
    value = pixels.max(-1, keepdims=True)
    wanted = np.clip(value + change, 0, 1)
    # Hue and saturation stay if the channels keep their ratio. Black has none, so it becomes grey.
    return _to_pixels(np.where(value > 0, pixels * wanted / np.maximum(value, 1e-9), wanted))


def contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Moves each channel towards its mean; the factor is the share of the deviation that is left."""
    pixels = image / 255
    mean = pixels.mean((0, 1), keepdims=True)
    return _to_pixels(mean + factor * (pixels - mean))


def occlusion(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Covers a square of this share of the area, at a random place, with the mean colour of the image."""
    across, down = rng.random(2)
    side = round(image.shape[0] * share**0.5)
    top, left = (round(place * (image.shape[0] - side)) for place in (down, across))
    covered = image.copy()
    covered[top : top + side, left : left + side] = _mean_colour(image)
    return covered


def rotation(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turns about the centre, to a random side. The corners get the mean colour of the image."""
    angle = degrees if rng.random() < 0.5 else -degrees
    turned = Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR, fillcolor=_mean_colour(image))
    return np.asarray(turned)


def scale(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrinks to this share of the side, in the middle of the mean colour of the image."""
    size = image.shape[0]
    side = max(round(size * factor), 1)
    canvas = Image.new("RGB", (size, size), _mean_colour(image))
    canvas.paste(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR), [(size - side) // 2] * 2)
    return np.asarray(canvas)


def _mean_colour(image: np.ndarray) -> tuple[int, ...]:
    return tuple(int(channel) for channel in image.mean((0, 1)) + 0.5)


def _to_pixels(values: np.ndarray) -> np.ndarray:
    """Converts an image in 0..1 to uint8."""
    return np.uint8(np.clip(values, 0, 1) * 255 + 0.5)


# A new corruption is one function and its line here.
CORRUPTIONS = {
    "gaussian_noise": Corruption(gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38), "deviation, of the full range"),
    "gaussian_blur": Corruption(gaussian_blur, (1, 2, 3, 4, 6), "deviation in pixels of an image of 224"),
    "jpeg": Corruption(jpeg, (25, 18, 15, 10, 7), "quality"),
    "brightness_up": Corruption(brightness, (0.1, 0.2, 0.3, 0.4, 0.5), "added to the value"),
    "brightness_down": Corruption(brightness, (-0.1, -0.2, -0.3, -0.4, -0.5), "added to the value"),
    "contrast": Corruption(contrast, (0.4, 0.3, 0.2, 0.1, 0.05), "contrast that is left"),
    "occlusion": Corruption(occlusion, (0.05, 0.1, 0.2, 0.3, 0.4), "share of the area"),
    "rotation": Corruption(rotation, (5, 10, 20, 30, 45), "degrees"),
    "scale": Corruption(scale, (0.9, 0.8, 0.7, 0.6, 0.5), "share of the side that is left"),
}
STRENGTHS = (1, 2, 3, 4, 5)
