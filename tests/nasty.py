"""Files that a folder of photographs may hold and should not, made one by one, each with what is to be said of it."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from conftest import make_image
from PIL import Image

OK, WARN, REJECT = "ok", "warn", "reject"
Row = tuple[str | bytes, str | set[str], bytes | Callable[[Path], object]]
"""Name, what is to be said, and the contents or what makes the file."""


def image(seed: int = 0, width: int = 60, height: int = 48) -> Image.Image:
    """An image that no other seed gives, so that none is a copy of another."""
    return make_image("disc" if seed % 2 else "square", np.random.default_rng(1000 + seed), width, height)


def encoded(form: str, seed: int, mode: str = "RGB", **options: object) -> bytes:
    """An image in a format and a mode of Pillow's."""
    file = io.BytesIO()
    image(seed).convert(mode).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, contents: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *between: bytes) -> bytes:
    """A PNG by its parts: bits a sample, colour type, filtered rows, and chunks before them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(between) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    )


def blank(side: int) -> bytes:
    """Filtered rows of a square 1-bit image without anything on it."""
    return bytes(side * (1 + (side + 7) // 8))


def bmp(width: int, height: int, bits: int, pixels: bytes, compression: int = 0, palette: int = 0) -> bytes:
    """A BMP by its parts; a negative height is stored from the top down."""
    table = b"".join(bytes([i * 7 % 256, i * 3 % 256, i % 256, 0]) for i in range(palette))
    start = 54 + len(table)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 2835, 2835, palette, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + table + pixels


def exif(seed: int, tiff: bytes) -> bytes:
    """A JPEG whose EXIF block holds these bytes."""
    whole = encoded("JPEG", seed)
    block = b"Exif\0\0" + tiff
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]


def oriented(value: int, order: str = "<", count: int = 1) -> bytes:
    """A TIFF block of one directory entry: the orientation."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, value, 0)
    return mark + struct.pack(order + "IH", 8, count) + entry + struct.pack(order + "I", 0)


def frames(form: str, seed: int, **options: object) -> bytes:
    """An animation of three frames."""
    file = io.BytesIO()
    image(seed).save(file, form, save_all=True, append_images=[image(seed + 400), image(seed + 401)], **options)
    return file.getvalue()


def flipped(contents: bytes, places: Iterator[int] | range | list[int]) -> bytes:
    """The bytes with one bit turned at each of these places."""
    damaged = bytearray(contents)
    for place in places:
        damaged[place] ^= 0x10
    return bytes(damaged)


def segments(seed: int, count: int, head: bytes) -> bytes:
    """A JPEG with so many segments between its first marker and the rest."""
    whole = encoded("JPEG", seed)
    return whole[:2] + head * count + whole[2:]


def sparse(size: int, start: bytes = b"") -> Callable[[Path], None]:
    """A file of this size that takes up next to nothing."""

    def make(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, size)

    return make


def linked(target: str) -> Callable[[Path], None]:
    """A symbolic link."""
    return lambda path: path.symlink_to(target)


def bound(path: Path) -> None:
    """A socket; its path may be longer than an address may be."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def jpegs() -> Iterator[Row]:
    whole = encoded("JPEG", 1, quality=92)
    scan = whole.index(b"\xff\xda") + 14
    for name, end in (("2", 2), ("20", 20), ("200", 200), ("scan", scan), ("half", scan + (len(whole) - scan) // 2)):
        yield f"cut_{name}.jpg", REJECT, whole[:end]
    yield "cut_9_of_10.jpg", REJECT, whole[: len(whole) * 9 // 10]
    yield "rotten.jpg", WARN, flipped(encoded("JPEG", 2, quality=95), range(scan + 40, scan + 900, 160))
    yield "rotten_head.jpg", REJECT, flipped(encoded("JPEG", 3), range(160, 420, 3))
    yield "zeros_in_scan.jpg", WARN, whole[: scan + 300] + bytes(len(whole) - scan - 302) + whole[-2:]
    yield "trailing.jpg", OK, encoded("JPEG", 4) + b"PK\x03\x04" + bytes(3000)
    yield "grey.jpg", OK, encoded("JPEG", 5, "L")
    yield "cmyk.jpg", WARN, encoded("JPEG", 6, "CMYK")
    yield "progressive.jpg", OK, encoded("JPEG", 7, progressive=True)
    yield "comment.jpg", OK, encoded("JPEG", 8, comment=b"<script>alert(1)</script>\x1b[2J")
    yield "two_million_segments.jpg", {OK, REJECT, WARN}, segments(9, 2_000_000, b"\xff\xe0\0\2")
    yield "segment_of_no_length.jpg", {OK, REJECT, WARN}, segments(10, 1, b"\xff\xe1\0\0")
    yield "long_segments.jpg", OK, segments(11, 3, b"\xff\xe5\xff\xff" + bytes(65533))
    for value in (2, 3, 4, 5, 6, 7, 8):
        yield f"turned_{value}.jpg", OK, exif(20 + value, oriented(value, "<>"[value % 2]))
    for value in (0, 9, 65535):
        yield f"turned_{value}.jpg", OK, exif(30 + value % 100, oriented(value))
    yield "exif_of_many_entries.jpg", OK, exif(40, oriented(6, count=65535))
    yield "exif_outside.jpg", OK, exif(41, b"II*\0" + struct.pack("<I", 2**31 - 1))
    yield "exif_at_itself.jpg", OK, exif(42, b"MM\0*" + struct.pack(">I", 0))
    yield "exif_cut.jpg", OK, exif(43, b"II")
    yield "exif_empty.jpg", OK, exif(44, b"")
    yield "lie_of_65500.jpg", REJECT, _sized(encoded("JPEG", 45), 65500, 65500)
    yield "no_width.jpg", REJECT, _sized(encoded("JPEG", 46), 0, 48)


def _sized(whole: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size."""
    place = whole.index(b"\xff\xc0") + 5
    return whole[:place] + struct.pack(">HH", height, width) + whole[place + 4 :]


def pngs() -> Iterator[Row]:
    whole = encoded("PNG", 101)
    data = whole.index(b"IDAT")
    for name, end in (("8", 8), ("30", 30), ("half", len(whole) // 2), ("end", len(whole) - 20)):
        yield f"cut_{name}.png", REJECT, whole[:end]
    yield "bad_crc.png", REJECT, flipped(whole, [data + 900])
    yield "bad_crc_of_text.png", OK, whole[: data - 4] + chunk(b"tEXt", b"a\0b")[:-1] + b"?" + whole[data - 4 :]
    yield "no_data.png", REJECT, whole[: data - 4] + chunk(b"IEND", b"")
    yield "trailing.png", OK, encoded("PNG", 102) + b"more" * 500
    for seed, mode in enumerate(("1", "L", "LA", "P", "RGBA", "I;16"), 103):
        pixels = image(seed).convert("L" if mode == "I;16" else mode)
        file = io.BytesIO()
        (Image.fromarray(np.asarray(pixels).astype(np.uint16) * 257) if mode == "I;16" else pixels).save(file, "PNG")
        yield f"mode_{mode.replace(';', '_')}.png", WARN if mode in ("LA", "RGBA", "I;16") else OK, file.getvalue()
    rows = np.random.default_rng(9).integers(0, 2**16, (40, 50, 3)).astype(">u2")
    yield "rgb_of_16_bits.png", WARN, png(50, 40, 16, 2, b"".join(b"\0" + row.tobytes() for row in rows))
    yield "animated.png", WARN, frames("PNG", 110)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000), 9))
    yield "large_text.png", OK, png(40, 40, 1, 0, bytes([0, 1, 2, 3, 4, 5] * 40), text)
    yield "22000_behind_text.png", REJECT, png(22000, 22000, 1, 0, blank(22000), text)
    yield "30000.png", REJECT, png(30000, 30000, 1, 0, blank(30000))
    yield "lie_of_60000.png", REJECT, png(60000, 60000, 8, 2, bytes(100))
    yield "lie_of_2_31.png", REJECT, png(2**31 - 1, 2**31 - 1, 8, 2, bytes(100))
    yield "no_width.png", REJECT, png(0, 40, 8, 2, bytes(100))
    yield "no_such_colour.png", REJECT, png(40, 40, 8, 5, bytes(40 * 121))
    yield "no_such_depth.png", REJECT, png(40, 40, 3, 0, bytes(40 * 121))
    yield "rows_missing.png", REJECT, png(64, 64, 8, 2, bytes(193 * 20))
    yield "one_pixel.png", REJECT, png(1, 1, 8, 2, bytes(4))
    yield "strip.png", WARN, png(9000, 2, 8, 0, (b"\0" + bytes(range(250)) * 36) * 2)


def others() -> Iterator[Row]:
    yield "animated.gif", WARN, frames("GIF", 201)
    gif = encoded("GIF", 204)
    yield "cut_half.gif", REJECT, gif[: len(gif) // 2]
    yield "cut_10.gif", REJECT, gif[:10]
    yield "screen_of_65535.gif", {OK, REJECT}, gif[:6] + b"\xff\xff\xff\xff" + gif[10:]
    yield "plain.bmp", OK, encoded("BMP", 206)
    yield "palette.bmp", {OK, REJECT}, encoded("BMP", 207, "P")
    yield "one_bit.bmp", {OK, REJECT}, encoded("BMP", 208, "1")
    yield "top_down.bmp", OK, bmp(32, -24, 24, np.random.default_rng(1).bytes(32 * 24 * 3))
    yield "run_length.bmp", REJECT, bmp(32, 24, 8, b"\x20\x05\0\0" * 24 + b"\0\1", compression=1, palette=256)
    yield "16_bits.bmp", REJECT, bmp(32, 24, 16, np.random.default_rng(2).bytes(32 * 24 * 2))
    yield "cut_half.bmp", REJECT, bmp(32, 24, 24, np.random.default_rng(3).bytes(32 * 12 * 3))
    yield "lie_of_100000.bmp", REJECT, bmp(100_000, 100_000, 24, bytes(300))
    yield "least.bmp", REJECT, bmp(-(2**31), -(2**31), 24, bytes(300))
    yield "lossy.webp", OK, encoded("WEBP", 220)
    yield "lossless.webp", OK, encoded("WEBP", 221, lossless=True)
    yield "alpha.webp", OK, encoded("WEBP", 222, "RGBA")
    yield "animated.webp", {OK, REJECT}, frames("WEBP", 223)
    webp = encoded("WEBP", 226)
    yield "cut_half.webp", REJECT, webp[: len(webp) // 2]
    yield "cut_20.webp", REJECT, webp[:20]
    yield "lie_of_16383.webp", REJECT, webp[:26] + b"\xff\x3f\xff\x3f" + webp[30:]
    yield "plain.tif", REJECT, encoded("TIFF", 227)
    yield "named.jpg.tif", WARN, encoded("JPEG", 228)
    yield "png_inside.jpg", WARN, encoded("PNG", 229)
    yield "gif_inside.bmp", WARN, encoded("GIF", 230)
    yield "webp_inside.PNG", WARN, encoded("WEBP", 231)
    for name, start in {
        "codestream.jxl": b"\xff\x0a",
        "container.jxl": b"\0\0\0\x0cJXL \r\n\x87\n",
        "photo.heic": b"\0\0\0\x18ftypheic",
        "photo.avif": b"\0\0\0\x1cftypavif",
        "film.mp4": b"\0\0\0\x20ftypisom",
        "film.jpg": b"\0\0\0\x20ftypmp42",
        "vector.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "paper.pdf": b"%PDF-1.7\n",
        "page.html": b"<!DOCTYPE html><html><body>404</body></html>",
        "page.png": b"<html><body>503</body></html>",
        "words.jpg": b"these are words, and no image\n" * 9,
        "archive.png": b"PK\x03\x04",
        "program.jpg": b"\x7fELF\x02\x01\x01",
        "icon.ico": b"\0\0\1\0\1\0",
        "layers.psd": b"8BPS\0\1",
        "only_a_head.png": b"\x89PNG\r\n\x1a\n",
        "pickle.jpg": b"\x80\x04\x95",
    }.items():
        yield name, REJECT, start + bytes(100)
    yield "nothing.jpg", REJECT, b""
    yield "one_byte.jpg", REJECT, b"\xff"
    yield "zeros.jpg", REJECT, bytes(1_000_000)
    yield "noise.png", REJECT, np.random.default_rng(4).bytes(50_000)


def odd_files() -> Iterator[Row]:
    yield "pipe.jpg", REJECT, os.mkfifo
    yield "socket.jpg", REJECT, bound
    yield "dangling.jpg", REJECT, linked("nowhere.jpg")
    yield "loop.jpg", REJECT, linked("loop.jpg")
    yield "for_ever.jpg", REJECT, linked("/dev/zero")
    yield "null.jpg", REJECT, linked("/dev/null")
    yield "sixty_gigabytes.jpg", REJECT, sparse(60 * 10**9, encoded("JPEG", 301))
    yield "half_a_gigabyte.bmp", REJECT, sparse(5 * 10**8, b"BM")
    yield "folder.jpg", OK, lambda path: (path.mkdir(), (path / "inner.png").write_bytes(encoded("PNG", 302)))
    yield "linked_folder", REJECT, linked("folder.jpg")


NAMES: tuple[str | bytes, ...] = (
    "new\nline.png",
    "clear\x1b[2J\x1b[31mscreen.png",
    "bell\x07 and tab\t.png",
    "right\u202egpj.png",
    "zero\u200bwidth\ufeff.png",
    "🐜 蚂蚁 Ämeise.png",
    "cafe\u0301.png",
    b"not \xff\xfe utf-8.png",
    "n" * 250 + ".png",
    "-rf.png",
    "--help.png",
    "=cmd|' -C calc'!A0.png",
    "@SUM(1).png",
    "comma, \"quote\" and 'single'.png",
    "back\\slash.png",
    "[red]markup[bold].png",
    "[abc]*?.png",
    "%s %n {0} {name}.png",
    "${HOME} $(id) `id`.png",
    " spaces at both ends .png ",
    "no ending",
    "carriage\rreturn.png",
    "<b>html&amp;.png",
)


def rows() -> list[Row]:
    """Every file, each once; names are only nasty where the file is good."""
    named = [(name, OK, encoded("PNG", 500 + index)) for index, name in enumerate(NAMES)]
    return [*jpegs(), *pngs(), *others(), *odd_files(), *named]


def make(folder: Path) -> dict[str, set[str]]:
    """Makes them all in a folder; what may be said of each, by its name (`surrogateescape`)."""
    folder.mkdir(parents=True)
    expected = {}
    for name, said, made in rows():
        path = folder / os.fsdecode(name)
        path.write_bytes(made) if isinstance(made, bytes) else made(path)
        expected[os.fsdecode(name)] = {said} if isinstance(said, str) else said
    return expected
