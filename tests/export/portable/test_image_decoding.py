"""The decoder that is shipped with portable artefacts, against the decoder of training."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasft.data import decode
from kerasft.data.framing import FRAMINGS
from kerasft.export.portable import publish

SIZE = 48


def shipped():
    return publish._module(publish.STANDALONE / "image_decoding.py").decode


def smooth(height, width):
    """A picture without sharp edges, on which decoders differ by rounding only."""
    rows, columns = np.linspace(0, 3, height)[:, None], np.linspace(0, 5, width)[None]
    channels = [127 + 90 * np.sin(rows + k) * np.cos(columns - k) for k in range(3)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def turned_in_words(kind, value):
    """A JPEG whose orientation is of another TIFF type than EXIF asks for, or in XMP alone. Training does not turn it."""
    image = smooth(61, 90)
    if kind == "xmp":
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{value}"/></x:xmpmeta>'
        return encoded(image, "JPEG", quality=95, xmp=xmp.encode())
    entry = struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 4, 1, value) + bytes(4)
    return encoded(image, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0" + entry)


def see_through(height, width):
    image = smooth(height, width).convert("RGBA")
    image.putalpha(Image.fromarray(np.linspace(0, 255, height * width).astype(np.uint8).reshape(height, width)))
    return image


def see_through_gif(height, width):
    """A GIF whose most frequent colour is transparent."""
    image = smooth(height, width).quantize(16)
    return encoded(image, "GIF", transparency=int(np.bincount(np.asarray(image).ravel()).argmax()))


def moved_frame(contents, left, top, width, height):
    """A GIF whose first frame has another place on a screen of another size."""
    changed, place = bytearray(contents), contents.index(b"\x2c\0\0\0\0")
    changed[6:10] = struct.pack("<HH", width, height)
    changed[place + 1 : place + 5] = struct.pack("<HH", left, top)
    return bytes(changed)


def growing_gif():
    """A GIF whose first frame is smaller than its second one."""
    small, large = (encoded(smooth(*size).quantize(16), "GIF") for size in ((40, 50), (64, 80)))
    # The palette of the screen becomes that of the second frame: 16 colours.
    second = large[large.index(b"\x2c\0\0\0\0") :]
    own = second[:9] + b"\x83" + large[13:61] + second[10:]
    return moved_frame(small[:-1] + own, 9, 5, 80, 64)


def without_adobe(contents):
    """A JPEG of four colours as other programs than Adobe's write it: without the marker, and so not inverted."""
    place = contents.index(b"\xff\xee\0\x0eAdobe")
    return contents[:place] + contents[place + 16 :]


CASES = {
    "jpeg": lambda: encoded(smooth(60, 90), "JPEG", quality=95),
    "jpeg_read_at_a_quarter": lambda: encoded(smooth(301, 403), "JPEG", quality=95),
    "png": lambda: encoded(smooth(130, 50), "PNG"),
    "png_grey": lambda: encoded(smooth(70, 70).convert("L"), "PNG"),
    "png_16_bits": lambda: encoded(
        Image.fromarray(np.linspace(0, 65535, 4900, dtype=np.uint16).reshape(70, 70)), "PNG"
    ),
    "png_alpha": lambda: encoded(smooth(70, 71).convert("RGBA"), "PNG"),
    "webp": lambda: encoded(smooth(64, 80), "WEBP", lossless=True),
    "webp_alpha": lambda: encoded(see_through(64, 80), "WEBP", lossless=True, exact=True),
    "exif_of_another_type": lambda: turned_in_words("long", 6),
    "orientation_in_xmp": lambda: turned_in_words("xmp", 6),
    "gif": lambda: encoded(smooth(64, 80).convert("P"), "GIF"),
    "gif_transparent": lambda: see_through_gif(64, 80),
    "gif_smaller_than_its_screen": lambda: moved_frame(see_through_gif(64, 80), 7, 11, 100, 90),
    "gif_smaller_than_its_second_frame": growing_gif,
    "cmyk": lambda: encoded(smooth(60, 90).convert("CMYK"), "JPEG", quality=95),
    "cmyk_without_adobe": lambda: without_adobe(encoded(smooth(60, 90).convert("CMYK"), "JPEG", quality=95)),
    "bmp": lambda: encoded(smooth(64, 80), "BMP"),
    # What phones write: a JPEG with further pictures.
    "mpo": lambda: encoded(
        smooth(61, 90), "MPO", save_all=True, append_images=[smooth(30, 40)], quality=95, exif=turned(6)
    ),
    "strip": lambda: encoded(smooth(4, 300), "PNG"),
    **{f"exif_{n}": lambda n=n: encoded(smooth(61, 90), "JPEG", quality=95, exif=turned(n)) for n in range(1, 9)},
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("case", CASES)
def test_both_decoders_give_the_same_pixels_but_for_rounding(case, framing):
    contents = CASES[case]()
    ours = decode.decode(tf.constant(contents), SIZE, framing).numpy().astype(float)
    theirs = shipped()(contents, SIZE, framing)
    assert theirs.shape == (SIZE, SIZE, 3) and theirs.dtype == np.float32
    gap = np.abs(ours - theirs)
    assert gap.mean() < 1.5 and gap.max() <= 6


def test_a_jpeg_of_a_few_pixels_across_is_decoded():
    # An eighth of the width is none at all.
    found = shipped()(encoded(smooth(2000, 7), "JPEG"), SIZE, "pad")
    assert found.shape == (SIZE, SIZE, 3)
