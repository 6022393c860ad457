"""Thumbnails: small images inside a page."""

import base64
import io

import numpy as np
from PIL import Image

# Longer side of a thumbnail, in pixels.
THUMBNAIL_SIZE = 160


def to_data_uri(pixels: np.ndarray, size: int = THUMBNAIL_SIZE) -> str:
    """Returns an image, uint8 [H, W, 3], as the data URI of a JPEG whose longer side is at most so many pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((size, size))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
