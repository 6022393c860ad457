"""How large a picture is, by its header alone: for all formats that the decoder reads, before anything is decoded."""

import struct

MAX_PIXELS = 1 << 27  # 134 megapixels, 400 MB decoded: more is taken for a decompression bomb
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # what the decoder reads

_SEGMENTS = 1 << 12  # of a JPEG before its size, or chunks of a PNG: more than a file of `files.MAX_BYTES` needs
_BLOCKS = 1 << 20  # of a GIF: as many full ones as such a file holds
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG's frame headers (ITU-T T.81, table B.1)
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment


def kind(contents: bytes) -> str | None:
    """Which of `FORMATS` encoded bytes are, by the marks that the decoder itself goes by."""
    if contents.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if contents.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if contents.startswith(b"GIF8"):
        return "GIF"
    if contents.startswith(b"BM"):
        return "BMP"
    return "WEBP" if contents[:4] == b"RIFF" and contents[8:12] == b"WEBP" else None


def size(contents: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, as stored; None for another format.

    Raises:
        ValueError: it is one of `FORMATS`, and its header does not say.
    """
    found = kind(contents)
    readers = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "BMP": _bmp, "WEBP": _webp}
    try:
        return readers[found](contents) if found else None
    except (struct.error, IndexError):
        raise ValueError("the file ends in its header") from None


def pixels(contents: bytes) -> int | None:
    """Width times height; of a GIF those of all frames, for a decoder may unpack them all. None for another format.

    Raises:
        ValueError: as `size`.
    """
    found = size(contents)
    if found is None:
        return None
    frames = _gif_frames(contents) if kind(contents) == "GIF" else 0
    return max(found[0] * found[1], frames)


def _jpeg(contents: bytes) -> tuple[int, int]:
    """ITU-T T.81, annex B; as libjpeg, which passes over what stands between two segments."""
    place = 2
    for _ in range(_SEGMENTS):
        place = contents.find(b"\xff", place)
        if place < 0:
            break
        while contents[place] == 0xFF:
            place += 1
        marker = contents[place]
        place += 1
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", contents, place + 3)
            return width, height
        if marker in (0xD9, 0xDA):
            raise ValueError("a picture begins before its size is told")
        if marker and marker not in _BARE:
            place += struct.unpack_from(">H", contents, place)[0]
    raise ValueError("no size in the file's first segments")


def _png(contents: bytes) -> tuple[int, int]:
    """PNG, third edition, 5.3 and 11.2.1."""
    place = 8
    for _ in range(_SEGMENTS):
        length, name = struct.unpack_from(">I4s", contents, place)
        if name == b"IHDR":
            return struct.unpack_from(">II", contents, place + 8)
        place += 12 + length
    raise ValueError("no size in the file's first chunks")


def _gif(contents: bytes) -> tuple[int, int]:
    """GIF89a, section 18."""
    return struct.unpack_from("<HH", contents, 6)


def _gif_frames(contents: bytes) -> int:
    """Pixels of all frames as far as the file goes (GIF89a, sections 18 to 24).

    Raises:
        ValueError: there are more blocks than a picture has.
    """
    total, left = 0, _BLOCKS
    try:
        place = 13 + _colours(contents[10])
        while contents[place] != 0x3B and left:
            if contents[place] == 0x2C:
                width, height = struct.unpack_from("<HH", contents, place + 5)
                total += width * height
                place += 11 + _colours(contents[place + 9])
            else:
                place += 2
            while contents[place] and left:
                place, left = place + contents[place] + 1, left - 1
            place, left = place + 1, max(left - 1, 0)
    except (IndexError, struct.error):
        return total
    if not left:
        raise ValueError(f"more than {_BLOCKS} blocks")
    return total


def _colours(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(contents: bytes) -> tuple[int, int]:
    """BITMAPINFOHEADER, as the decoder reads it; a negative height says that the rows come from the top."""
    width, height = struct.unpack_from("<ii", contents, 18)
    return abs(width), abs(height)


def _webp(contents: bytes) -> tuple[int, int]:
    """RFC 9649, sections 2.5 to 2.7."""
    form = contents[12:16]
    if form == b"VP8X":
        low, high, more = struct.unpack_from("<HHH", contents, 24)
        return 1 + (low | (high & 0xFF) << 16), 1 + (high >> 8 | more << 8)
    if form == b"VP8L":
        bits = struct.unpack_from("<I", contents, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"VP8 ":
        width, height = struct.unpack_from("<HH", contents, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("a WebP without a picture")
