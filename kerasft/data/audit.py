"""The audit: every file is decoded once before training, with the decoder that training uses.

A file that cannot be decoded is named and left out. A file that looks wrong is named. The decoded images are stored where
there is space, so that they are not decoded again.
"""

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasft.console import stderr_filter
from kerasft.data import duplicates, image_headers
from kerasft.data.decode import decode
from kerasft.data.listing import Finding, Listing
from kerasft.settings import machine

# Decoded images may take this share of the free memory of the machine.
MAX_MEMORY_SHARE = 0.3
# Each core decodes so many images before libjpeg's warnings are read.
IMAGES_PER_CORE = 32
# The kind of the one finding whose file is used all the same.
DAMAGED = "damaged"

# The first four bytes of formats that people take for images.
_OTHER_FORMATS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<!DO": "HTML",
    b"<htm": "HTML",
    b"PK\x03\x04": "ZIP archive",
}
# Brands of the ISO base media file format that are images. All other brands are videos.
_IMAGE_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


class PixelStore(NamedTuple):
    """Where decoded images are stored. Every function may be called from any thread.

    Attributes:
        lookup: index and SHA-256 of a file to what the store knows of it. None: nothing. A kind and a detail: the file
            is rejected or damaged. An empty tuple: the image is stored, and nothing is wrong with it.
        put: stores index, SHA-256, (kind, detail) or None, and the image, uint8 [S, S, 3], or None for a rejected file.
        take: index array [B] to images, uint8 [B, S, S, 3].
    """

    lookup: Callable[[int, str], tuple[str, str] | tuple[()] | None]
    put: Callable[[int, str, tuple[str, str] | None, np.ndarray | None], None]
    take: Callable[[np.ndarray], np.ndarray]


def fits_in_memory(count: int, size: int) -> bool:
    """Tells whether `count` images of size x size pixels take at most `MAX_MEMORY_SHARE` of the memory."""
    return count * size * size * 3 <= MAX_MEMORY_SHARE * machine.available_bytes()


def make_memory_store(count: int, size: int) -> PixelStore:
    """Returns a store that holds `count` images of size x size pixels in one array."""
    stored = np.empty((count, size, size, 3), np.uint8)

    def put(index: int, digest: str, problem: tuple[str, str] | None, image: np.ndarray | None) -> None:
        if image is not None:
            stored[index] = image

    return PixelStore(lambda index, digest: None, put, lambda rows: stored[rows])


def audit(
    listing: Listing, size: int, progress: Callable[[int], None], pixel_store: PixelStore | None
) -> tuple[Listing, Callable[[np.ndarray], np.ndarray] | None]:
    """Decodes every example that the store does not know.

    Args:
        listing: what the source lists.
        size: side of the decoded images in pixels.
        progress: called with 1 after each example.
        pixel_store: where the images are stored; None for nowhere.

    Returns:
        The listing without the rejected files and with findings added. And a function from indices [B] of that listing to
        images, uint8 [B, size, size, 3]; None without a store.
    """
    count, workers = len(listing.ids), machine.cpu_count()
    graph = tf.function(
        lambda contents: decode(contents, size, listing.framing), input_signature=[tf.TensorSpec([], tf.string)]
    )
    digests, pixel_digests, problems = [""] * count, [""] * count, [None] * count
    # Files that the store did not know: their image, or None where the file is rejected.
    decoded: dict[int, np.ndarray | None] = {}

    def check(index: int) -> None:
        try:
            contents = listing.read(index)
        except (OSError, ValueError) as error:
            problems[index] = ("unreadable", getattr(error, "strerror", None) or str(error))
        else:
            digests[index] = hashlib.sha256(contents).hexdigest()
            entry = pixel_store.lookup(index, digests[index]) if pixel_store else None
            if entry is None:
                problems[index], image = _decode(contents, graph)
                decoded[index] = image
            else:
                problems[index] = entry or None
                image = pixel_store.take(np.array([index]))[0] if _is_usable(problems[index]) else None
            if image is not None:
                pixel_digests[index] = hashlib.sha256(image.data).hexdigest()
        progress(1)

    def check_damage(index: int) -> None:
        # A file that has vanished by now is reported when training reads it.
        with suppress(OSError, ValueError):
            contents = listing.read(index)
            is_same = hashlib.sha256(contents).hexdigest() == digests[index]
            if is_same and image_headers.detect_format(contents) == "JPEG":
                graph(tf.constant(contents))
                if warning := _first_damage(read_stderr()):
                    problems[index] = (DAMAGED, f"{warning}; it can be read, but part of it may be wrong")

    with stderr_filter.capture_lines() as read_stderr, ThreadPoolExecutor(workers) as pool:
        step = IMAGES_PER_CORE * workers
        for start in range(0, count, step):
            list(pool.map(check, range(start, min(start + step, count))))
            # libjpeg's warnings name no file. After one, the files of this step are decoded again, one at a time.
            if _first_damage(read_stderr()):
                for index in sorted(index for index in decoded if problems[index] is None):
                    check_damage(index)
            if pixel_store:
                list(pool.map(lambda i: pixel_store.put(i, digests[i], problems[i], decoded[i]), decoded))
            decoded.clear()
    findings = [
        Finding(listing.ids[i], problem[0], "warn" if _is_usable(problem) else "reject", problem[1])
        for i, problem in enumerate(problems)
        if problem
    ]
    usable = np.array([_is_usable(problem) for problem in problems], bool)
    kept, places = listing.without_rejected(usable, np.array(digests), np.array(pixel_digests)), np.flatnonzero(usable)
    kept = replace(kept, findings=(*listing.findings, *findings, *duplicates.find_duplicates(kept)))
    return kept, (lambda rows: pixel_store.take(places[rows])) if pixel_store else None


def _is_usable(problem: tuple[str, str] | None) -> bool:
    return problem is None or problem[0] == DAMAGED


def _first_damage(lines: list[str]) -> str:
    """Returns libjpeg's first warning about an image that it has decoded all the same; empty without one."""
    return next((line for line in lines if line.startswith(stderr_filter.DAMAGE)), "")


def _decode(contents: bytes, graph: Callable) -> tuple[tuple[str, str] | None, np.ndarray | None]:
    """Returns why a file is rejected (kind, detail), or its image, uint8 [S, S, 3]."""
    if problem := _check_header(contents):
        return problem, None
    try:
        return None, graph(tf.constant(contents)).numpy()
    except tf.errors.OpError as error:
        return _explain(contents, error), None


def _check_header(contents: bytes) -> tuple[str, str] | None:
    """Returns kind and detail of what the header alone gives away, before anything is decoded."""
    if not contents:
        return "empty_file", "0 bytes"
    try:
        return image_headers.find_size_fault(contents)
    except ValueError as error:
        return "corrupt", str(error)


def _explain(contents: bytes, error: tf.errors.OpError) -> tuple[str, str]:
    """Returns kind and detail for an error of the decoder."""
    other = next((name for magic, name in _OTHER_FORMATS.items() if contents[:4].lower() == magic.lower()), None)
    if contents[4:8] == b"ftyp":  # the ISO base media file format; its brand follows
        other = "HEIC or AVIF" if contents[8:12] in _IMAGE_BRANDS else "video (MP4 or QuickTime)"
    if other:
        return "unsupported_format", f"{other}; TensorFlow reads JPEG, PNG, GIF, BMP and WebP: convert the file"
    message = re.sub(r"\{\{.*?\}\}|\[Op:.*|\s+", " ", error.message).strip()
    if "Unknown image file format" in message:
        return "not_an_image", "no image format that TensorFlow reads (JPEG, PNG, GIF, BMP, WebP)"
    return "corrupt", message.split(" [[")[0][:160]
