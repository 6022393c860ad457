"""Images with detail at all scales, as photographs have it, and copies of them."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 120, 96


def texture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A random image whose detail gets weaker towards finer scales."""
    rng, total = np.random.default_rng(seed), np.zeros((height, width, 3), np.float32)
    for side, strength in ((3, 60), (6, 40), (12, 30), (24, 20), (48, 12)):
        noise = rng.normal(128, 40, (side, side, 3)).clip(0, 255).astype(np.uint8)
        scaled = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        total += (scaled - 128) / 40 * strength
    return Image.fromarray(np.uint8(np.clip(total + 128, 0, 255)))


def _encoded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((int(left * width), int(top * height), int(right * width), int(bottom * height)))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: _encoded(image, 40),
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "cropped": lambda image: _cropped(image, 0.05, 0.05, 0.95, 0.95),
    "cropped more": lambda image: _cropped(image, 0.08, 0.08, 0.92, 0.92),
    "cropped at a corner": lambda image: _cropped(image, 0, 0, 0.92, 0.92),
    "cropped unevenly": lambda image: _cropped(image, 0.05, 0.02, 0.98, 0.95),
    "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.15))),
}
