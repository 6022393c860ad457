"""Reads the size of an image from its header, for all formats that the decoder reads. Nothing is decoded here."""

import struct

# An image with more pixels (134 megapixels, 400 MB decoded) is refused as a decompression bomb.
MAX_PIXELS = 1 << 27
# An image with fewer pixels, width times height, is refused. An 8x8 image is just large enough.
MIN_PIXELS = 64
# The formats that the decoder reads.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")

# At most so many JPEG segments or PNG chunks are searched for the size. No file of `files.MAX_IMAGE_BYTES` needs more.
_MAX_SEGMENTS = 1 << 12
# At most so many blocks of a GIF are read. So many full blocks make a file of `files.MAX_IMAGE_BYTES`.
_MAX_GIF_BLOCKS = 1 << 20
# Markers of the frame headers of a JPEG (ITU-T T.81, table B.1).
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Markers of a JPEG that no segment follows.
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}


def detect_format(contents: bytes) -> str | None:
    """Returns which of `FORMATS` encoded bytes are, by the signatures that the decoder checks; None for none of them."""
    if contents.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if contents.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if contents.startswith(b"GIF8"):
        return "GIF"
    if contents.startswith(b"BM"):
        return "BMP"
    return "WEBP" if contents[:4] == b"RIFF" and contents[8:12] == b"WEBP" else None


def read_size(contents: bytes) -> tuple[int, int] | None:
    """Returns width and height in pixels, as stored; None for a format that is not in `FORMATS`.

    Raises:
        ValueError: the format is in `FORMATS`, and the header gives no size.
    """
    image_format = detect_format(contents)
    readers = {"JPEG": _read_jpeg, "PNG": _read_png, "GIF": _read_gif, "BMP": _read_bmp, "WEBP": _read_webp}
    try:
        return readers[image_format](contents) if image_format else None
    except (struct.error, IndexError):
        raise ValueError("the image is incomplete: the file ends in its header") from None


def count_pixels(contents: bytes) -> int | None:
    """Returns the pixels that decoding may produce; None for a format that is not in `FORMATS`.

    That is width times height. For a GIF it is at least the sum over all frames, because a decoder may unpack them all.

    Raises:
        ValueError: as `read_size`.
    """
    size = read_size(contents)
    if size is None:
        return None
    return max(size[0] * size[1], _count_gif_pixels(contents, *size) if detect_format(contents) == "GIF" else 0)


def find_size_fault(contents: bytes) -> tuple[str, str] | None:
    """Returns why an image is refused for its size: the kind of a finding, and its detail. None for a good size.

    This is the one rule of the audit, of `predict` and of the server. What is in no known format passes here.

    Raises:
        ValueError: as `read_size`.
    """
    size, pixels = read_size(contents), count_pixels(contents)
    if size is None:
        return None
    if pixels > MAX_PIXELS:
        frames = "" if pixels == size[0] * size[1] else f" in all frames of {size[0]}x{size[1]}"
        return "too_large", f"has {pixels:,} pixels{frames}; at most {MAX_PIXELS:,} are decoded"
    if size[0] * size[1] < MIN_PIXELS:
        return "too_small", f"has {size[0]}x{size[1]} pixels; at least {MIN_PIXELS} pixels are needed"
    return None


def count_jpeg_channels(contents: bytes) -> int:
    """Returns the number of channels of a JPEG: 1 (grey), 3, or 4 (CMYK).

    Raises:
        ValueError, IndexError: the header has none.
    """
    return contents[_find_jpeg_frame(contents) + 7]


def _read_jpeg(contents: bytes) -> tuple[int, int]:
    height, width = struct.unpack_from(">HH", contents, _find_jpeg_frame(contents) + 3)
    return width, height


def _find_jpeg_frame(contents: bytes) -> int:
    """Returns where the frame header begins (ITU-T T.81, annex B). Bytes between segments are skipped, as libjpeg does."""
    place = 2
    for _ in range(_MAX_SEGMENTS):
        place = contents.find(b"\xff", place)
        if place < 0:
            break
        while contents[place] == 0xFF:
            place += 1
        marker = contents[place]
        place += 1
        if marker in _FRAME_MARKERS:
            return place
        if marker in (0xD9, 0xDA):
            raise ValueError("the image data begin before the size is given")
        if marker and marker not in _BARE_MARKERS:
            place += struct.unpack_from(">H", contents, place)[0]
    raise ValueError("no size in the first segments of the file")


def _read_png(contents: bytes) -> tuple[int, int]:
    """PNG, third edition, 5.3 and 11.2.1. A second header is refused: some decoders take the first one, some the last."""
    place, size = 8, None
    for _ in range(_MAX_SEGMENTS):
        if size and place + 8 > len(contents):
            break
        length, name = struct.unpack_from(">I4s", contents, place)
        if name == b"IDAT":
            break
        if name == b"IHDR":
            if size:
                raise ValueError("two headers give its size")
            size = struct.unpack_from(">II", contents, place + 8)
        place += 12 + length
    if size is None:
        raise ValueError("no size in the first chunks of the file")
    return size


def _read_gif(contents: bytes) -> tuple[int, int]:
    """GIF89a, section 18."""
    return struct.unpack_from("<HH", contents, 6)


def count_gif_frames(contents: bytes) -> int:
    """Returns the frames of a GIF, up to the end of the file.

    Raises:
        ValueError: as `read_size`.
    """
    return len(_list_gif_frames(contents))


def _count_gif_pixels(contents: bytes, width: int, height: int) -> int:
    """Pixels of all frames, or of the canvas that holds them all: a decoder may enlarge it beyond the stated size."""
    frames = _list_gif_frames(contents)
    canvas = max([width, *(left + across for left, _, across, _ in frames)])
    canvas *= max([height, *(top + down for _, top, _, down in frames)])
    return max(canvas, sum(across * down for *_, across, down in frames))


def _list_gif_frames(contents: bytes) -> list[tuple[int, int, int, int]]:
    """Returns left, top, width and height of each frame, up to the end of the file (GIF89a, sections 18 to 24).

    Raises:
        ValueError: the file has more than `_MAX_GIF_BLOCKS` blocks.
    """
    frames, blocks_left = [], _MAX_GIF_BLOCKS
    try:
        place = 13 + _count_palette_bytes(contents[10])
        while contents[place] != 0x3B and blocks_left:
            if contents[place] == 0x2C:
                frames.append(struct.unpack_from("<HHHH", contents, place + 1))
                place += 11 + _count_palette_bytes(contents[place + 9])
            else:
                place += 2
            while contents[place] and blocks_left:
                place, blocks_left = place + contents[place] + 1, blocks_left - 1
            place, blocks_left = place + 1, max(blocks_left - 1, 0)
    except (IndexError, struct.error):
        return frames
    if not blocks_left:
        raise ValueError(f"more than {_MAX_GIF_BLOCKS} blocks")
    return frames


def _count_palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _read_bmp(contents: bytes) -> tuple[int, int]:
    """BITMAPINFOHEADER, as the decoder reads it. A negative height means that the top row is stored first.

    TensorFlow takes the bytes of an image with a palette for grey levels. So other palettes are refused. It reads no other
    depths than these.
    """
    width, height = struct.unpack_from("<ii", contents, 18)
    (depth,) = struct.unpack_from("<H", contents, 28)
    if depth not in (8, 24, 32):
        raise ValueError(f"a BMP of {depth} bits a pixel, which TensorFlow does not read: convert the file")
    if depth == 8:
        start = 14 + struct.unpack_from("<I", contents, 14)[0]
        colours = struct.unpack_from("<I", contents, 46)[0] or 256
        palette = contents[start : start + 4 * min(colours, 256)]
        if any(palette[4 * level : 4 * level + 3] != bytes([level] * 3) for level in range(len(palette) // 4)):
            raise ValueError("a BMP with a palette of colours, which TensorFlow does not read: convert the file")
    return abs(width), abs(height)


def _read_webp(contents: bytes) -> tuple[int, int]:
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
    raise ValueError("a WebP file without an image")
