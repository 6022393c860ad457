"""Sizes by our own reading of headers, against Pillow and against the decoder."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_image
from PIL import Image

from kerasft.data import decode, image_headers


def encoded(kind: str, size: tuple[int, int] = (30, 20), **settings) -> bytes:
    file = io.BytesIO()
    make_image("disc", np.random.default_rng(0), 64, 64).resize(size).save(file, kind, **settings)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SETTINGS = [
    *((kind, {}) for kind in image_headers.FORMATS),
    ("JPEG", {"progressive": True, "comment": b"x" * 3000, "icc_profile": b"y" * 200_000}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}),
]


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@pytest.mark.parametrize("size", [(30, 20), (1, 1), (257, 1031)])
def test_the_size_of_each_format(kind, settings, size):
    contents = encoded(kind, size, **settings)
    assert image_headers.detect_format(contents) == kind
    assert image_headers.read_size(contents) == size
    assert image_headers.count_pixels(contents) == size[0] * size[1]


def test_a_png_that_pillow_cannot_open_has_a_size():
    """Its text unpacks to more than Pillow allows; TensorFlow does not look at it."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 22_000, 22_000, 8, 2, 0, 0, 0))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 21)))
    contents = b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(contents))
    assert image_headers.count_pixels(contents) == 484_000_000 > image_headers.MAX_PIXELS


def test_bytes_between_the_segments_of_a_jpeg_are_passed_over_as_the_decoder_does():
    plain = encoded("JPEG")
    contents = plain[:2] + b"\xff\xff\xfe\0\4hi" + b"junk\xff\0junk" + plain[2:]
    assert image_headers.read_size(contents) == (30, 20)
    assert decode.decode(tf.constant(contents), 16, "crop").shape == (16, 16, 3)


def test_segments_and_blocks_without_end_are_not_followed():
    plain, gif = encoded("JPEG"), encoded("GIF")
    with pytest.raises(ValueError, match="no size in the first segments of the file"):
        image_headers.read_size(plain[:2] + 2_000_000 * b"\xff\xe2\0\2" + plain[2:])
    start = gif.index(b"\x2c\0\0\0\0")
    with pytest.raises(ValueError, match="blocks"):
        image_headers.count_pixels(gif[:start] + b"\x21\xfe" + 2_000_000 * b"\1x" + b"\0" + gif[start:])


def test_all_frames_of_a_gif_count_as_far_as_it_goes():
    frames = [Image.new("P", (20, 20), shade) for shade in (0, 1, 2)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    contents = bytearray(file.getvalue())
    assert image_headers.read_size(bytes(contents)) == (20, 20)
    last = contents.rindex(b"\x2c\x00\x00\x00\x00")
    contents[last + 5 : last + 9] = struct.pack("<HH", 60_000, 60_000)
    assert image_headers.count_pixels(bytes(contents)) > image_headers.MAX_PIXELS
    assert image_headers.count_pixels(bytes(contents[:last])) < 1200


def test_a_frame_beyond_the_stated_size_counts_with_the_canvas_that_holds_it():
    contents = bytearray(encoded("GIF", (8, 8)))
    place = contents.index(b"\x2c\0\0\0\0\x08\0\x08\0")
    contents[place + 1 : place + 5] = struct.pack("<HH", 20_000, 20_000)
    assert image_headers.read_size(bytes(contents)) == (8, 8)
    assert image_headers.count_pixels(bytes(contents)) == 20_008**2
    kind, detail = image_headers.find_size_fault(bytes(contents))
    assert kind == "too_large" and "400,320,064 pixels" in detail


def test_a_png_with_two_headers_is_refused():
    contents = encoded("PNG")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    place = contents.index(b"IDAT") - 4
    with pytest.raises(ValueError, match="two headers give its size"):
        image_headers.read_size(contents[:place] + header + contents[place:])


@pytest.mark.parametrize("depth", [1, 4, 16])
def test_a_bmp_of_another_depth_is_refused(depth):
    contents = bytearray(encoded("BMP"))
    contents[28] = depth
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode.decode(tf.constant(bytes(contents)), 64, "crop")
    with pytest.raises(ValueError, match=f"a BMP of {depth} bits a pixel, which TensorFlow does not read"):
        image_headers.read_size(bytes(contents))


def test_a_bmp_with_a_palette_of_colours_is_refused():
    image = make_image("disc", np.random.default_rng(0), 64, 64)
    file = io.BytesIO()
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(file, "BMP")
    # The decoder would take the places in the palette for grey levels.
    assert decode.decode(tf.constant(file.getvalue()), 64, "crop").shape == (64, 64, 3)
    with pytest.raises(ValueError, match="a palette of colours"):
        image_headers.read_size(file.getvalue())
    assert image_headers.read_size(encoded("BMP")) == (30, 20)
    grey = io.BytesIO()
    image.convert("L").save(grey, "BMP")
    assert image_headers.read_size(grey.getvalue()) == (64, 64)


@pytest.mark.parametrize("kind", image_headers.FORMATS)
def test_no_cut_raises_anything_but_what_is_said(kind):
    contents = encoded(kind)
    for end in range(len(contents)):
        try:
            found = image_headers.count_pixels(contents[:end])
        except ValueError:
            continue
        assert found in (600, None)


def test_other_formats_have_none():
    for contents in (b"", b"hello", encoded("TIFF"), b"RIFFxxxxWAVE"):
        assert (
            image_headers.detect_format(contents)
            is image_headers.read_size(contents)
            is image_headers.count_pixels(contents)
            is None
        )


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        ((1, 1), ("too_small", "has 1x1 pixels; at least 64 pixels are needed")),
        ((9, 7), ("too_small", "has 9x7 pixels; at least 64 pixels are needed")),
        ((8, 8), None),
        ((64, 1), None),
    ],
)
def test_an_image_of_too_few_pixels_has_a_size_fault(size, fault):
    for kind in image_headers.FORMATS:
        assert image_headers.find_size_fault(encoded(kind, size)) == fault
    assert image_headers.find_size_fault(b"hello") is None
