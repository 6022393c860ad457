"""The one decoder against Pillow, for every format, orientation and odd shape."""

import io

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_image, shared
from PIL import Image, ImageOps

from kerasft.data import decode
from kerasft.data.framing import FRAMINGS

ORIENTATION = 0x0112


def _encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _photo(width: int = 60, height: int = 48) -> Image.Image:
    return make_image("disc", np.random.default_rng(3), width, height)


def _exif(value: int, endian: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "maker"  # so that the orientation is not the first entry
    exif[ORIENTATION] = value
    return exif.tobytes()


def _orientation(contents: bytes) -> int:
    return int(decode.read_orientations(tf.constant([contents]))[0])


def _with_orientation(image: Image.Image, value: int) -> Image.Image:
    turned = image.copy()
    turned.getexif()[ORIENTATION] = value
    return turned


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_in_both_byte_orders(value, endian):
    contents = _encoded(_photo(), quality=95, exif=_exif(value, endian))
    assert _orientation(contents) == value
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    expected = decode.decode(tf.constant(_encoded(upright, "PNG")), 48, "crop").numpy().astype(int)
    found = decode.decode(tf.constant(contents), 48, "crop").numpy().astype(int)
    assert np.abs(found - expected).mean() < 2  # two JPEG decoders
    assert np.abs(found - expected).max() < 25


def test_orientation_works_inside_a_graph():
    graph = tf.function(decode.read_orientations, input_signature=[tf.TensorSpec([None], tf.string)])
    contents = [_encoded(_photo(), exif=_exif(6)), b"", _encoded(_photo()), _encoded(_photo(), exif=_exif(3, ">"))]
    assert graph(tf.constant(contents)).numpy().tolist() == [6, 1, 1, 3]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("shape", [(61, 48), (48, 61)])
def test_the_square_of_a_turned_image_is_that_of_the_upright_one(shape, value, framing):
    image = _photo(*shape)
    contents = _encoded(image, "PNG")
    turned = ImageOps.exif_transpose(_with_orientation(image, value))
    expected = decode.decode(tf.constant(_encoded(turned, "PNG")), 48, framing).numpy()
    stored, orientation = tf.io.decode_image(contents, channels=3), tf.constant(value)
    found = decode.apply_orientation(FRAMINGS[framing].fit(stored, 48, orientation), orientation) + 0.5
    # A mirrored interpolation may round the other way; the crop of this image is not resized.
    np.testing.assert_allclose(np.asarray(found, np.uint8).astype(int), expected, rtol=0, atol=framing != "crop")


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"Exif\0\0",
        b"\xff\xd8Exif",
        b"\xff\xd8\xff\xe1\x00\x04Exif\0\0II*\0\xff\xff\xff\xff",
        b"\xff\xd8\xff\xe1\x00\x40Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"\xff\xd8\xff\xe1\x00\x40Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",
        b"\xff\xd8\xff\xff\xff\xff\xffExif\0\0",
        _encoded(_photo(), exif=_exif(9)),
        _encoded(_photo(), "PNG"),
    ],
)
def test_broken_or_missing_exif_is_upright(contents):
    assert _orientation(contents) == 1


def test_exif_behind_other_segments_is_found():
    plain = _encoded(_photo(), exif=_exif(3))
    comment = b"\xff\xfe\x00\x0ahello jp"
    icc = b"\xff\xe2" + (3002).to_bytes(2, "big") + b"x" * 3000
    assert _orientation(plain[:2] + comment + icc + plain[2:]) == 3


def test_empty_segments_are_not_followed_for_ever():
    plain, empty = _encoded(_photo(), exif=_exif(3)), b"\xff\xe2\x00\x02"
    assert _orientation(plain[:2] + 60 * empty + plain[2:]) == 3
    for count in (70, 200_000):
        many = plain[:2] + count * empty + plain[2:]
        assert _orientation(many) == 1
    assert decode.decode(tf.constant(many), 32, "crop").shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "L"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("BMP", "RGB"),
        ("GIF", "P"),
        ("WEBP", "RGB"),
        ("WEBP", "RGBA"),
        ("JPEG", "L"),
        ("JPEG", "RGB"),
        ("PNG", "LA"),
    ],
)
def test_formats_and_modes_become_rgb(kind, mode):
    image = _photo().convert(mode)
    if mode == "RGBA":
        # An image that is opaque everywhere may be stored without transparency.
        image.putpixel((3, 3), (10, 20, 30, 40))
    options = {"lossless": True} if kind == "WEBP" else {}
    contents = _encoded(image, kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB").crop((6, 0, 54, 48)), int)
    found = decode.decode(tf.constant(contents), 48, "crop").numpy()
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("options", [{"lossless": True, "exact": True}, {"quality": 90}], ids=["VP8L", "VP8X"])
@pytest.mark.parametrize("frames", [1, 3])
def test_transparency_of_a_webp_is_dropped(options, frames):
    image = _photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    contents = _encoded(
        image, "WEBP", save_all=True, append_images=[image.rotate(90 * n) for n in range(1, frames)], **options
    )
    expected = np.asarray(Image.open(io.BytesIO(contents)).convert("RGB").crop((6, 0, 54, 48)), int)
    found = decode.decode(tf.constant(contents), 48, "crop").numpy().astype(int)
    assert np.abs(found - expected).mean() < 1


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("value", [1, 6])
@pytest.mark.parametrize("shape", [(500, 340), (340, 500), (167, 161), (160, 160), (320, 320), (641, 640)])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(shape, value, framing):
    image = _photo().resize((10, 10)).resize(shape, Image.Resampling.BICUBIC)  # coarser than what is left of it
    contents = _encoded(image, quality=95, exif=_exif(value))
    whole = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    expected = decode.decode(tf.constant(_encoded(whole, "PNG")), 40, framing).numpy().astype(int)
    found = decode.decode(tf.constant(contents), 40, framing).numpy().astype(int)
    assert np.abs(found - expected).mean() < 3  # blocks that reach over the edge shift it by up to half a pixel


def test_damaged_images_are_refused():
    whole = _encoded(_photo())
    for contents in (b"", b"not an image", whole[: len(whole) // 2], whole[:20]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode.decode(tf.constant(contents), 32, "crop")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_batch_is_its_images(framing):
    contents = [_encoded(_photo(w, h)) for w, h in ((60, 48), (50, 90), (40, 40))]
    batch = decode.decode_batch(tf.constant(contents), 40, framing).numpy()
    for row, one in zip(batch, contents):
        np.testing.assert_array_equal(row, decode.decode(tf.constant(one), 40, framing))


@pytest.mark.parametrize("number", range(2, 9))
def test_shared_orientations_come_out_as_the_baseline(number):
    folder = shared("data", "dirty", "train", "ants")
    expected = decode.decode(tf.constant((folder / "baseline.jpg").read_bytes()), 96, "crop").numpy().astype(int)
    found = (
        decode.decode(tf.constant((folder / f"exif_orientation_{number}.jpg").read_bytes()), 96, "crop")
        .numpy()
        .astype(int)
    )
    assert np.abs(found - expected).mean() < 1.5
