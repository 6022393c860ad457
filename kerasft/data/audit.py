"""The audit: every file is decoded once, before training, with the decoder that training uses.

What cannot be read is named and left out; what looks wrong is named. The decoded pictures are kept where there is room,
so the audit's work is not done again.
"""

import hashlib
import io
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasft.data.listing import Finding, Listing
from kerasft.decode import decode

MAX_PIXELS = 2**27  # 134 megapixels, 400 MB decoded: more is taken for a decompression bomb
MIN_PIXELS = 64  # an 8x8 picture is the smallest that is taken for one
MEMORY_SHARE = 0.3  # of the machine's memory for decoded pictures

_KINDS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<!DO": "HTML",
    b"<htm": "HTML",
    b"PK\x03\x04": "ZIP archive",
}


class Held(NamedTuple):
    """Where decoded pictures are held, from any thread.

    Attributes:
        known: index and SHA-256 of a file to what is known of it: nothing (None), a reason to refuse it (kind and detail),
            or that its picture is held, ().
        put: notes index, SHA-256, reason or None, and picture, uint8 [S, S, 3] or None.
        take: index array [B] to uint8 [B, S, S, 3].
    """

    known: Callable[[int, str], tuple[str, str] | tuple[()] | None]
    put: Callable[[int, str, tuple[str, str] | None, np.ndarray | None], None]
    take: Callable[[np.ndarray], np.ndarray]


def fits(count: int, size: int) -> bool:
    """Whether so many pictures take no more than `MEMORY_SHARE` of the memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return count * size * size * 3 <= MEMORY_SHARE * memory


def in_memory(count: int, size: int) -> Held:
    """Pictures in one array."""
    rows = np.empty((count, size, size, 3), np.uint8)

    def put(index: int, digest: str, reason: tuple[str, str] | None, picture: np.ndarray | None) -> None:
        if picture is not None:
            rows[index] = picture

    return Held(lambda index, digest: None, put, lambda wanted: rows[wanted])


def audit(
    listing: Listing, size: int, progress: Callable[[int], None], held: Held | None
) -> tuple[Listing, Callable[[np.ndarray], np.ndarray] | None]:
    """Decodes every example, unless it is known already.

    Args:
        listing: what the source lists.
        size: side in pixels.
        progress: called with 1 after each example.
        held: where the pictures go; None for nowhere.

    Returns:
        The listing without the rejected files and with findings added; and what gives the pictures of its indices [B], uint8
        [B, size, size, 3], or None.
    """
    count = len(listing.ids)
    graph = tf.function(lambda contents: decode(contents, size), input_signature=[tf.TensorSpec([], tf.string)])
    digests, reasons = [""] * count, [None] * count

    def look(index: int) -> None:
        try:
            contents = listing.read(index)
        except OSError as error:
            reasons[index] = ("unreadable", error.strerror or str(error))
        else:
            digests[index] = hashlib.sha256(contents).hexdigest()
            known = held.known(index, digests[index]) if held else None
            reasons[index] = known or None
            if known is None:
                reasons[index], picture = _decoded(contents, graph)
                if held:
                    held.put(index, digests[index], reasons[index], picture)
        progress(1)

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow's, about headers that the decoder has no trouble with
        list(pool.map(look, range(count)))
    rejected = [Finding(listing.ids[i], reason[0], "reject", reason[1]) for i, reason in enumerate(reasons) if reason]
    good = np.array([reason is None for reason in reasons], bool)
    warned = _duplicates(listing, digests, good)
    places = np.flatnonzero(good)
    audited = listing.audited(good, np.array(digests), (*rejected, *warned))
    return audited, (lambda rows: held.take(places[rows])) if held else None


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
    from PIL import Image

    if not contents:
        return "empty_file", "0 bytes"
    try:
        width, height = Image.open(io.BytesIO(contents)).size
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        return "too_large", f"{pixels[0] if pixels else 'too many'} pixels; at most {MAX_PIXELS} are decoded"
    except Exception as error:  # noqa: BLE001 - Pillow raises many types; the decoder has the last word
        del error
        return None
    if width * height > MAX_PIXELS:
        return "too_large", f"{width}x{height} pixels; at most {MAX_PIXELS} are decoded"
    if width * height < MIN_PIXELS:
        return "too_small", f"{width}x{height} pixels hold no picture; at least {MIN_PIXELS} are needed"
    return None


def _reason(contents: bytes, error: tf.errors.OpError) -> tuple[str, str]:
    """Kind and detail of a decoder's refusal."""
    known = next((kind for magic, kind in _KINDS.items() if contents[:4].lower() == magic.lower()), None)
    if contents[4:8] == b"ftyp":
        known = "HEIC or AVIF"
    if known:
        return "unsupported_format", f"{known}; TensorFlow reads JPEG, PNG, GIF, BMP and WebP: convert the file"
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*|\s+", " ", error.message).strip()
    if "Unknown image file format" in text:
        return "not_an_image", "no picture format that TensorFlow reads (JPEG, PNG, GIF, BMP, WebP)"
    return "corrupt", text.split(" [[")[0][:160]


def _duplicates(listing: Listing, digests: list[str], good: np.ndarray) -> list[Finding]:
    """Warnings for equal bytes under two labels, or in two splits."""
    groups = defaultdict(list)
    for index in np.flatnonzero(good):
        groups[digests[index]].append(index)
    found = []
    for group in (group for group in groups.values() if len(group) > 1):
        for index in group[1:]:
            first = group[0]
            if (listing.labels[index] != listing.labels[first]).any():
                kind = "conflicting_label"
            elif listing.parts[index] != listing.parts[first]:
                kind = "duplicate_across_splits"
            else:
                kind = "duplicate"
            found.append(Finding(listing.ids[index], kind, "warn", f"same bytes as {listing.ids[first]}"))
    return found
