"""Images are judged by their headers: formats, truncation, bombs; base64 strictly."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from conftest import make_image
from PIL import Image

from kerasft.data import image_headers
from kerasft.serve import image_checks
from kerasft.serve.limits import RequestError


def encoded(kind: str, size: tuple[int, int] = (30, 20), **settings) -> bytes:
    file = io.BytesIO()
    make_image("disc", np.random.default_rng(0), 64, 64).resize(size).save(file, kind, **settings)
    return file.getvalue()


def png_bomb(side: int) -> bytes:
    """A valid PNG of side x side black pixels in a few hundred kilobytes or less."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(side // 8 + 1) * side, 9)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", image_headers.FORMATS)
def test_each_format_passes_up_to_the_limit_and_not_above(kind):
    contents = encoded(kind)
    image_checks.check_image(contents, 600, "instances[0]")
    with pytest.raises(RequestError, match=r"instances\[0\]: an image may have at most 599 pixels") as caught:
        image_checks.check_image(contents, 599, "instances[0]")
    assert caught.value.status == 400


def test_a_bomb_is_refused_by_its_header():
    bomb = png_bomb(30_000)
    assert len(bomb) < 200_000
    with pytest.raises(RequestError, match="at most 50,000,000 pixels"):
        image_checks.check_image(bomb, 50_000_000, "x")


def test_a_bomb_behind_a_text_that_pillow_refuses():
    bomb = png_bomb(22_000)
    data = b"Comment\0\0" + zlib.compress(bytes(1 << 21))
    text = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    with pytest.raises(RequestError, match="at most 50,000,000 pixels"):
        image_checks.check_image(bomb[:33] + text + bomb[33:], 50_000_000, "x")


def test_a_bomb_in_a_later_frame_of_a_gif_counts():
    frames = [Image.new("P", (20, 20), shade) for shade in (0, 1, 2)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    contents = bytearray(file.getvalue())
    image_checks.check_image(bytes(contents), 1200, "x")
    last = contents.rindex(b"\x2c\x00\x00\x00\x00")
    contents[last + 5 : last + 9] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(RequestError, match="pixels"):
        image_checks.check_image(bytes(contents), 50_000_000, "x")


@pytest.mark.parametrize(
    "contents", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFFxxxxWEBP"]
)
def test_what_is_no_image_is_refused(contents):
    said = "the image must have one of the formats|the image is incomplete|a WebP file without an image"
    with pytest.raises(RequestError, match=said) as caught:
        image_checks.check_image(contents, 10**6, "x")
    assert caught.value.status == 400


@pytest.mark.parametrize("kind", image_headers.FORMATS)
def test_no_cut_of_an_image_raises_anything_else(kind):
    contents = encoded(kind)
    for end in range(0, len(contents), 7):
        try:
            image_checks.check_image(contents[:end], 10**6, "x")
        except RequestError as refusal:
            assert refusal.status == 400


def test_tiff_is_none_of_the_formats():
    with pytest.raises(RequestError, match="one of the formats JPEG, PNG, GIF, BMP, WEBP"):
        image_checks.check_image(encoded("TIFF"), 10**6, "x")


def test_a_whole_file_is_not_called_incomplete():
    file = io.BytesIO()
    Image.open(io.BytesIO(encoded("PNG"))).quantize(16).save(file, "BMP")
    with pytest.raises(RequestError, match=r"^x: a BMP with a palette of colours, which TensorFlow does not read"):
        image_checks.check_image(file.getvalue(), 10**6, "x")


def test_base64_is_strict_but_for_white_space():
    data = bytes(range(200))
    assert image_checks.decode_base64(base64.b64encode(data).decode(), "x") == data
    assert image_checks.decode_base64(base64.encodebytes(data).decode(), "x") == data
    for wrong in ("$$$", "abc", "YWJj=YWJj", "käse", None, 7):
        with pytest.raises(RequestError, match="base64"):
            image_checks.decode_base64(wrong, "x")


def test_an_image_that_the_audit_calls_too_small_is_refused():
    image_checks.check_image(encoded("PNG", (8, 8)), 10**6, "x")
    with pytest.raises(RequestError, match="an image needs at least 64 pixels"):
        image_checks.check_image(encoded("PNG", (1, 1)), 10**6, "x")
