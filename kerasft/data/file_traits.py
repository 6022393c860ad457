"""What the header of an image file says that may surprise: another format than its name says, depth, colours, animation."""

import struct
from pathlib import PurePosixPath

from kerasft.data import image_headers

# The extensions of each format that the decoder reads.
_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
}
# Extensions of images that are not in one of these formats.
_OTHER_EXTENSIONS = (".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".svg", ".ico", ".psd")
# Colour types of a PNG with an alpha channel (PNG, third edition, 11.2.1).
_PNG_ALPHA = (4, 6)


def find_traits(path: str, contents: bytes) -> list[tuple[str, str]]:
    """Returns (kind, detail) of what is unusual about a file that can be decoded.

    Kinds: `mistyped` (its extension is that of another format), `16_bit`, `cmyk`, `alpha`, `animated`.

    Args:
        path: of the file; only the extension counts. A name without one is not judged.
        contents: encoded bytes.
    """
    image_format = image_headers.detect_format(contents)
    if image_format is None:
        return []
    found, extension = [], PurePosixPath(path).suffix.lower()
    others = {one for name, names in _EXTENSIONS.items() if name != image_format for one in names}
    if extension in others or extension in _OTHER_EXTENSIONS:
        found.append(("mistyped", f"its bytes are {image_format}; the name says {extension[1:]}"))
    try:
        found += _READERS[image_format](contents)
    # The decoder forgives more than this; a header that cannot be followed says nothing.
    except (struct.error, IndexError, ValueError):
        return found
    return found


def is_opaque_animated_webp(contents: bytes) -> bool:
    """Whether a file is an animated WebP whose header says that it has no transparency. TensorFlow does not read these."""
    return contents[:4] + contents[8:16] == b"RIFFWEBPVP8X" and contents[20:21] != b"" and contents[20] & 0x12 == 0x02


def _read_png(contents: bytes) -> list[tuple[str, str]]:
    depth, colour = contents[24], contents[25]
    found = [("16_bit", "16 bits a channel; the upper 8 are used")] if depth == 16 else []
    chunks = dict(_list_png_chunks(contents))
    if colour in _PNG_ALPHA or b"tRNS" in chunks:
        found.append(("alpha", "its transparency is dropped: what is hidden by it is seen"))
    if b"acTL" in chunks:
        found.append(("animated", "only the first frame is used"))
    return found


def _list_png_chunks(contents: bytes) -> list[tuple[bytes, int]]:
    """Returns name and place of the chunks before the image data."""
    place, chunks = 8, []
    while place + 8 <= len(contents):
        length, name = struct.unpack_from(">I4s", contents, place)
        if name == b"IDAT" or len(chunks) > 64:
            break
        chunks.append((name, place))
        place += 12 + length
    return chunks


def _read_jpeg(contents: bytes) -> list[tuple[str, str]]:
    if image_headers.count_jpeg_channels(contents) == 4:
        return [("cmyk", "four channels (CMYK), made for print; converted to RGB without a colour profile")]
    return []


def _read_gif(contents: bytes) -> list[tuple[str, str]]:
    return [("animated", "only the first frame is used")] if image_headers.count_gif_frames(contents) > 1 else []


def _read_webp(contents: bytes) -> list[tuple[str, str]]:
    """RFC 9649, sections 2.7.1 and 3.4: the flags of the extended header; without one, that of a lossless image."""
    if contents[12:16] not in (b"VP8X", b"VP8L"):
        return []
    flags = contents[20] if contents[12:16] == b"VP8X" else contents[24] & 0x10
    found = [("alpha", "its transparency is dropped: what is hidden by it is seen")] if flags & 0x10 else []
    return found + ([("animated", "only the first frame is used")] if flags & 0x02 else [])


_READERS = {"PNG": _read_png, "JPEG": _read_jpeg, "GIF": _read_gif, "WEBP": _read_webp, "BMP": lambda contents: []}
