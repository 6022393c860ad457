"""The audit: every file is decoded once, before training, with the decoder that training uses.

What cannot be read is named and left out; what looks wrong is named. The decoded pictures are kept where there is room,
so the audit's work is not done again.
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
from kerasft.data import copies, image_headers
from kerasft.data.decode import decode
from kerasft.data.listing import Finding, Listing
from kerasft.settings import machine

MIN_PIXELS = 64  # an 8x8 picture is the smallest that is taken for one
MEMORY_SHARE = 0.3  # of the machine's memory for decoded pictures
TOGETHER = 32  # pictures for each core that are looked at before damage is asked for
DAMAGED = "damaged"  # the one kind of finding under which a file is used all the same

_KINDS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<!DO": "HTML",
    b"<htm": "HTML",
    b"PK\x03\x04": "ZIP archive",
}
_STILL = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


class PixelStore(NamedTuple):
    """Where decoded pictures are held, from any thread.

    Attributes:
        known: index and SHA-256 of a file to what is known of it: nothing (None), a reason to refuse it or to call it
            damaged (kind and detail), or that its picture is held and whole, ().
        put: notes index, SHA-256, reason or None, and picture, uint8 [S, S, 3] or None where it is refused.
        take: index array [B] to uint8 [B, S, S, 3].
    """

    known: Callable[[int, str], tuple[str, str] | tuple[()] | None]
    put: Callable[[int, str, tuple[str, str] | None, np.ndarray | None], None]
    take: Callable[[np.ndarray], np.ndarray]


def fits(count: int, size: int) -> bool:
    """Whether so many pictures take no more than `MEMORY_SHARE` of the memory."""
    return count * size * size * 3 <= MEMORY_SHARE * machine.available_bytes()


def in_memory(count: int, size: int) -> PixelStore:
    """Pictures in one array."""
    rows = np.empty((count, size, size, 3), np.uint8)

    def put(index: int, digest: str, reason: tuple[str, str] | None, picture: np.ndarray | None) -> None:
        if picture is not None:
            rows[index] = picture

    return PixelStore(lambda index, digest: None, put, lambda wanted: rows[wanted])


def audit(
    listing: Listing, size: int, progress: Callable[[int], None], pixel_store: PixelStore | None
) -> tuple[Listing, Callable[[np.ndarray], np.ndarray] | None]:
    """Decodes every example, unless it is known already.

    Args:
        listing: what the source lists.
        size: side in pixels.
        progress: called with 1 after each example.
        pixel_store: where the pictures go; None for nowhere.

    Returns:
        The listing without the rejected files and with findings added; and what gives the pictures of its indices [B], uint8
        [B, size, size, 3], or None.
    """
    count, workers = len(listing.ids), machine.cpu_count()
    graph = tf.function(lambda contents: decode(contents, size), input_signature=[tf.TensorSpec([], tf.string)])
    digests, pixels, reasons = [""] * count, [""] * count, [None] * count
    fresh: dict[int, np.ndarray | None] = {}  # decoded, or refused, and not yet held

    def look(index: int) -> None:
        try:
            contents = listing.read(index)
        except (OSError, ValueError) as error:
            reasons[index] = ("unreadable", getattr(error, "strerror", None) or str(error))
        else:
            digests[index] = hashlib.sha256(contents).hexdigest()
            known = pixel_store.known(index, digests[index]) if pixel_store else None
            if known is None:
                reasons[index], picture = _decoded(contents, graph)
                fresh[index] = picture
            else:
                reasons[index] = known or None
                picture = pixel_store.take(np.array([index]))[0] if _usable(reasons[index]) else None
            if picture is not None:
                pixels[index] = hashlib.sha256(picture.data).hexdigest()
        progress(1)

    def look_for_damage(index: int) -> None:
        with suppress(OSError, ValueError):  # what is gone by now is told when it is used
            contents = listing.read(index)
            if image_headers.kind(contents) == "JPEG" and hashlib.sha256(contents).hexdigest() == digests[index]:
                graph(tf.constant(contents))
                if told := _damage(complaints()):
                    reasons[index] = (DAMAGED, f"{told}; it can be read, but part of it may be wrong")

    with stderr_filter.captured() as complaints, ThreadPoolExecutor(workers) as pool:
        for start in range(0, count, TOGETHER * workers):
            list(pool.map(look, range(start, min(start + TOGETHER * workers, count))))
            # libjpeg does not say of which: where there is damage, those decoded together are decoded one by one.
            if _damage(complaints()):
                for index in sorted(index for index in fresh if reasons[index] is None):
                    look_for_damage(index)
            if pixel_store:
                list(
                    pool.map(lambda index: pixel_store.put(index, digests[index], reasons[index], fresh[index]), fresh)
                )
            fresh.clear()
    named = [
        Finding(listing.ids[i], reason[0], "warn" if _usable(reason) else "reject", reason[1])
        for i, reason in enumerate(reasons)
        if reason
    ]
    good = np.array([_usable(reason) for reason in reasons], bool)
    without_rejected, places = listing.without_rejected(good, np.array(digests), np.array(pixels)), np.flatnonzero(good)
    without_rejected = replace(
        without_rejected, findings=(*listing.findings, *named, *copies.findings(without_rejected))
    )
    return without_rejected, (lambda rows: pixel_store.take(places[rows])) if pixel_store else None


def _usable(reason: tuple[str, str] | None) -> bool:
    return reason is None or reason[0] == DAMAGED


def _damage(lines: list[str]) -> str:
    """The first of libjpeg's complaints about a picture that it has decoded all the same, or nothing."""
    return next((line for line in lines if line.startswith(stderr_filter.DAMAGE)), "")


def _decoded(contents: bytes, graph: Callable) -> tuple[tuple[str, str] | None, np.ndarray | None]:
    """Why a file is refused, or its picture, uint8 [S, S, 3]."""
    if reason := _refusal(contents):
        return reason, None
    try:
        return None, graph(tf.constant(contents)).numpy()
    except tf.errors.OpError as error:
        return _reason(contents, error), None


def _refusal(contents: bytes) -> tuple[str, str] | None:
    """Kind and detail where the header alone says no: nothing is decoded."""
    if not contents:
        return "empty_file", "0 bytes"
    try:
        size, pixels = image_headers.size(contents), image_headers.pixels(contents)
    except ValueError as error:
        return "corrupt", str(error)
    if size is None:
        return None
    if pixels > image_headers.MAX_PIXELS:
        frames = "" if pixels == size[0] * size[1] else f", {pixels} in all frames"
        return "too_large", f"{size[0]}x{size[1]} pixels{frames}; at most {image_headers.MAX_PIXELS} are decoded"
    if size[0] * size[1] < MIN_PIXELS:
        return "too_small", f"{size[0]}x{size[1]} pixels hold no picture; at least {MIN_PIXELS} are needed"
    return None


def _reason(contents: bytes, error: tf.errors.OpError) -> tuple[str, str]:
    """Kind and detail of a decoder's refusal."""
    known = next((kind for magic, kind in _KINDS.items() if contents[:4].lower() == magic.lower()), None)
    if contents[4:8] == b"ftyp":  # ISO base media file format; its brand says of what
        known = "HEIC or AVIF" if contents[8:12] in _STILL else "film (MP4 or QuickTime)"
    if known:
        return "unsupported_format", f"{known}; TensorFlow reads JPEG, PNG, GIF, BMP and WebP: convert the file"
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*|\s+", " ", error.message).strip()
    if "Unknown image file format" in text:
        return "not_an_image", "no picture format that TensorFlow reads (JPEG, PNG, GIF, BMP, WebP)"
    return "corrupt", text.split(" [[")[0][:160]
