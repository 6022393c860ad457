"""The image files that `kerasft explain --images` names, decoded as for training."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasft.console import console
from kerasft.data import decode as decoder
from kerasft.data import decoding_errors
from kerasft.predict import sources

# Of more files, the first ones are explained. The page stays below 3 MB.
MAX_FILES = 24


class Asked(NamedTuple):
    """Files.

    Attributes:
        images: the files of `--images`, all of them.
        names: those that are explained.
        left_out: how many files are not, because there are more than `MAX_FILES`.
        failed: for `explain.json`, `{"file", "error"}` of each that cannot be read; filled by `decode`.
    """

    images: sources.ImageFiles
    names: list[str]
    left_out: int
    failed: list[dict[str, str]]


def find(images: str) -> Asked:
    """Finds the files.

    Raises:
        UserError: no file matches.
    """
    found = sources.find_images(images)
    names = found.names[:MAX_FILES]
    if left_out := len(found.names) - len(names):
        console.say(f"explain: the first {MAX_FILES} of {len(found.names):,} files; kerasft predict labels all of them")
    return Asked(found, names, left_out, [])


def decode(asked: Asked, size: int, framing: str) -> tuple[list[str], np.ndarray]:
    """Decodes the files. One that cannot be decoded is said, and added to `failed`.

    Returns:
        The names of the others, and their images, uint8 [N, size, size, 3].
    """
    names, pixels = [], []
    for name in asked.names:
        try:
            contents = asked.images.read(name)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            reason = _add_decoded(pixels, contents, size, framing)
        if reason:
            console.say(f"{name}: ERROR {reason}")
            asked.failed.append({"file": name, "error": reason})
        else:
            names.append(name)
    return names, np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)


def _add_decoded(pixels: list[np.ndarray], contents: bytes, size: int, framing: str) -> str:
    """Adds a decoded image, or returns why there is none, as the audit says it."""
    if fault := decoding_errors.check_header(contents):
        return fault[1]
    try:
        pixels.append(decoder.decode(tf.constant(contents), size, framing).numpy())
    except tf.errors.InvalidArgumentError as error:
        return decoding_errors.explain(contents, error)[1]
    return ""
