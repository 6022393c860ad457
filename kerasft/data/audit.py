"""The audit: every file is decoded once before training, with the decoder that training uses.

A file that cannot be decoded is named and left out. A file that looks wrong is named. The decoded images are stored where
there is space, so that they are not decoded again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasft.console import stderr_filter
from kerasft.data import decoding_errors, file_traits, image_headers, image_measurements, inspection
from kerasft.data.decode import decode_batch
from kerasft.data.listing import Finding, Listing
from kerasft.settings import machine

# Decoded images may take this share of the free memory of the machine.
MAX_MEMORY_SHARE = 0.3
# Each core decodes so many images before libjpeg's warnings are read.
IMAGES_PER_CORE = 32
# So many images are decoded in one call: a call for each takes a quarter more time.
IMAGES_PER_CALL = 8
# An image with more pixels, or whose pixels are not known, is decoded in a call of its own, so that memory holds it.
MAX_BATCHED_PIXELS = 1 << 22
# The kind of the one finding whose file is used all the same.
DAMAGED = "damaged"


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
    listing: Listing,
    size: int,
    progress: Callable[[int], None],
    pixel_store: PixelStore | None,
    *,
    inspected: bool = True,
) -> tuple[Listing, Callable[[np.ndarray], np.ndarray] | None]:
    """Decodes every example that the store does not know.

    Args:
        listing: what the source lists.
        size: side of the decoded images in pixels.
        progress: called with a number of examples after these.
        pixel_store: where the images are stored; None for nowhere.
        inspected: whether images are compared with each other. It is not needed twice.

    Returns:
        The listing without the rejected files and with findings added. And a function from indices [B] of that listing to
        images, uint8 [B, size, size, 3]; None without a store.
    """
    count, workers = len(listing.ids), machine.cpu_count()
    specs = [tf.TensorSpec([None], tf.string)]
    graph = tf.function(lambda contents: decode_batch(contents, size, listing.framing), input_signature=specs)
    measured = image_measurements.make_empty(count if inspected else 0)
    found: list[_File] = []

    def checked(rows: range) -> list[_File]:
        files = _check(listing, rows, graph, pixel_store, measured if inspected else None)
        progress(len(rows))
        return files

    with stderr_filter.capture_lines() as read_stderr, ThreadPoolExecutor(workers) as pool:
        step = IMAGES_PER_CORE * workers
        for start in range(0, count, step):
            rows = range(start, min(start + step, count))
            calls = (rows[i : i + IMAGES_PER_CALL] for i in range(0, len(rows), IMAGES_PER_CALL))
            files = [file for part in pool.map(checked, calls) for file in part]
            # libjpeg's warnings name no file. After one, the files of this step are decoded again.
            if _first_damage(read_stderr()):
                damages = _find_damages(listing, dict(zip(rows, files)), graph, read_stderr)
                files = [file._replace(problem=damages.get(i, file.problem)) for i, file in zip(rows, files)]
            if pixel_store:
                new = [(index, file) for index, file in zip(rows, files) if file.is_decoded]
                list(pool.map(lambda one: pixel_store.put(one[0], one[1].digest, one[1].problem, one[1].image), new))
            found += [file._replace(image=None) for file in files]
    usable = np.array([_is_usable(file.problem) for file in found], bool)
    digests, pixel_digests = np.array([[file.digest, file.pixel_digest] for file in found]).reshape(-1, 2).T
    kept, places = listing.without_rejected(usable, digests, pixel_digests), np.flatnonzero(usable)
    kept = replace(kept, findings=(*listing.findings, *_findings(listing, found)))
    take = (lambda rows: pixel_store.take(places[rows])) if pixel_store else None
    if inspected:

        def decode(rows: np.ndarray) -> np.ndarray:
            return graph(tf.constant([kept.read(int(row)) for row in rows], tf.string)).numpy()

        kept = inspection.inspect(kept, measured.take(places), take or decode)
    return kept, take


class _File(NamedTuple):
    """What the audit knows of a file.

    Attributes:
        digest: SHA-256 of its bytes; empty where it cannot be read.
        problem: kind and detail, where it is rejected or damaged.
        pixel_digest: SHA-256 of its image; empty without one.
        traits: kinds and details of what is unusual in it.
        is_decoded: whether it was decoded now: the store did not know it.
        image: uint8 [S, S, 3], where it was decoded now and is not rejected.
    """

    digest: str = ""
    problem: tuple[str, str] | None = None
    pixel_digest: str = ""
    traits: Sequence[tuple[str, str]] = ()
    is_decoded: bool = False
    image: np.ndarray | None = None


def _check(
    listing: Listing,
    rows: range,
    graph: Callable,
    pixel_store: PixelStore | None,
    measured: image_measurements.Measures | None,
) -> list[_File]:
    """Reads some files, and decodes what the store does not know of them in one call.

    Args:
        measured: gets the rows of these images; None where nothing is measured.
    """
    files: dict[int, _File] = {}
    unknown: dict[int, bytes] = {}
    usable: dict[int, tuple[bytes, np.ndarray]] = {}
    for index in rows:
        try:
            contents = listing.read(index)
        except (OSError, ValueError) as error:
            files[index] = _File(problem=("unreadable", getattr(error, "strerror", None) or str(error)))
            continue
        files[index] = _File(hashlib.sha256(contents).hexdigest())
        entry = pixel_store.lookup(index, files[index].digest) if pixel_store else None
        if entry is None:
            unknown[index] = contents
            continue
        files[index] = files[index]._replace(problem=entry or None)
        if _is_usable(files[index].problem):
            usable[index] = contents, pixel_store.take(np.array([index]))[0]
    for index, (problem, image) in zip(unknown, _decode([*unknown.values()], graph)):
        files[index] = files[index]._replace(problem=problem, is_decoded=True, image=image)
        if image is not None:
            usable[index] = unknown[index], image
    for index, (contents, image) in usable.items():
        files[index] = files[index]._replace(pixel_digest=_digest(image))
        if measured is not None:
            measured.sizes[index] = image_headers.read_size(contents) or 0
            files[index] = files[index]._replace(traits=file_traits.find_traits(listing.ids[index], contents))
    if measured is not None and usable:
        image_measurements.measure(np.stack([image for _, image in usable.values()]), measured, [*usable])
    return [files[index] for index in rows]


def _find_damages(
    listing: Listing, files: Mapping[int, _File], graph: Callable, read_stderr: Callable[[], list[str]]
) -> dict[int, tuple[str, str]]:
    """Decodes files again, and returns the damage that libjpeg reports of some (kind, detail), by index.

    They are decoded a few in a call, and one at a time only where a call was warned about.
    """
    damages, rows = {}, [row for row, file in files.items() if file.is_decoded and file.problem is None]
    for start in range(0, len(rows), IMAGES_PER_CALL):
        jpegs = {}
        for row in rows[start : start + IMAGES_PER_CALL]:
            # A file that has vanished by now is reported when training reads it.
            with suppress(OSError, ValueError):
                contents = listing.read(row)
                is_same = hashlib.sha256(contents).hexdigest() == files[row].digest
                if is_same and image_headers.detect_format(contents) == "JPEG":
                    jpegs[row] = contents
        small = [contents for contents in jpegs.values() if _is_small(contents)]
        if small:
            graph(tf.constant(small, tf.string))
        has_warned = bool(_first_damage(read_stderr()))
        for row, contents in jpegs.items():
            if has_warned or not _is_small(contents):
                graph(tf.constant([contents]))
                if warning := _first_damage(read_stderr()):
                    damages[row] = DAMAGED, f"{warning}; it can be read, but part of it may be wrong"
    return damages


def _is_small(contents: bytes) -> bool:
    """Whether an image is decoded together with others."""
    return (image_headers.count_pixels(contents) or np.inf) <= MAX_BATCHED_PIXELS


def _findings(listing: Listing, files: list[_File]) -> list[Finding]:
    """What is wrong with files or unusual in them: their problems first."""
    problems = [
        Finding(listing.ids[i], file.problem[0], "warn" if _is_usable(file.problem) else "reject", file.problem[1])
        for i, file in enumerate(files)
        if file.problem
    ]
    traits = [
        Finding(listing.ids[i], kind, "warn", detail) for i, file in enumerate(files) for kind, detail in file.traits
    ]
    return problems + traits


def _is_usable(problem: tuple[str, str] | None) -> bool:
    return problem is None or problem[0] == DAMAGED


def _first_damage(lines: list[str]) -> str:
    """Returns libjpeg's first warning about an image that it has decoded all the same; empty without one."""
    return next((line for line in lines if line.startswith(stderr_filter.DAMAGE)), "")


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def _decode(contents: list[bytes], graph: Callable) -> list[tuple[tuple[str, str] | None, np.ndarray | None]]:
    """Returns of each file why it is rejected (kind, detail), or its image, uint8 [S, S, 3]."""
    results = [(decoding_errors.check_header(each), None) for each in contents]
    good = [place for place, (problem, _) in enumerate(results) if problem is None]
    small = [place for place in good if _is_small(contents[place])]
    alone = sorted({*good} - {*small})
    try:
        images = graph(tf.constant([contents[place] for place in small], tf.string)).numpy() if small else []
        for place, image in zip(small, images):
            results[place] = (None, image)
    except tf.errors.OpError:
        # The error names no file.
        alone = good
    for place in alone:
        try:
            results[place] = (None, graph(tf.constant([contents[place]])).numpy()[0])
        except tf.errors.OpError as error:
            results[place] = (decoding_errors.explain(contents[place], error), None)
    return results
