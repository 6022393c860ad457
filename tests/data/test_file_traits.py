"""What a header says that may surprise."""

import io

import numpy as np
import pytest
from PIL import Image

from kerasft.data import file_traits


def encoded(mode: str, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (20, 16), 3 if mode in ("L", "P", "I;16") else None).save(file, image_format, **options)
    return file.getvalue()


def frames() -> list:
    return [Image.fromarray(np.full((16, 20, 3), 40 * k, np.uint8)) for k in range(3)]


@pytest.mark.parametrize(
    ("name", "contents", "kinds"),
    [
        ("a.jpg", encoded("RGB", "JPEG"), []),
        ("A.JPEG", encoded("L", "JPEG"), []),
        ("a.png", encoded("RGB", "JPEG"), ["mistyped"]),
        ("a.heic", encoded("RGB", "PNG"), ["mistyped"]),
        ("no_extension", encoded("RGB", "PNG"), []),
        ("a.dat", encoded("RGB", "PNG"), []),
        ("a.jpg", encoded("CMYK", "JPEG"), ["cmyk"]),
        ("a.png", encoded("RGBA", "PNG"), ["alpha"]),
        ("a.png", encoded("LA", "PNG"), ["alpha"]),
        ("a.png", encoded("P", "PNG", transparency=0), ["alpha"]),
        ("a.png", encoded("P", "PNG"), []),
        ("a.png", encoded("I;16", "PNG"), ["16_bit"]),
        ("a.png", encoded("RGB", "PNG", save_all=True, append_images=frames()), ["animated"]),
        ("a.gif", encoded("RGB", "GIF", save_all=True, append_images=frames()), ["animated"]),
        ("a.gif", encoded("RGB", "GIF"), []),
        ("a.webp", encoded("RGB", "WEBP", save_all=True, append_images=frames()), ["animated"]),
        ("a.webp", encoded("RGBA", "WEBP", lossless=True, exact=True), ["alpha"]),
        ("a.webp", encoded("RGBA", "WEBP"), ["alpha"]),
        ("a.webp", encoded("RGB", "WEBP", lossless=True), []),
        ("a.webp", encoded("RGB", "WEBP"), []),
        ("a.bmp", encoded("RGB", "BMP"), []),
        ("a.jpg", b"hello", []),
        ("a.png", b"\x89PNG\r\n\x1a\n", []),
    ],
)
def test_kinds(name, contents, kinds):
    found = file_traits.find_traits(name, contents)
    assert [kind for kind, _ in found] == kinds
    assert all(detail for _, detail in found)
