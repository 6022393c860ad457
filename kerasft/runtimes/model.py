"""The contract of a loaded model: what it takes, what it gives, and how it refuses an image."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# NumPy's dtype of encoded images and of names.
STRING = np.dtype(object)


class InvalidImage(Exception):
    """A batch has an instance that the model does not accept. The message is the reason."""


class TensorSpec(NamedTuple):
    """Shape and dtype of a tensor.

    Attributes:
        shape: an unknown length is None.
        dtype: `STRING` for encoded images and names, whose elements are bytes.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype


class Signature(NamedTuple):
    """A signature of a model with one input.

    Attributes:
        name: of its only input.
        spec: shape and dtype of that input.
        outputs: specs by name.
        call: from N instances (bytes, or arrays of `spec.shape[1:]`) to outputs [N, ...]. It may be called by several
            threads at once. It raises InvalidImage.
    """

    name: str
    spec: TensorSpec
    outputs: dict[str, TensorSpec]
    call: Callable[[list], dict[str, np.ndarray]]

    @property
    def encoded(self) -> bool:
        """Whether the input is encoded images."""
        return self.spec.dtype == STRING


class LoadedModel(NamedTuple):
    """A model in memory, whichever runtime computes it.

    Attributes:
        metadata: task, classes and image size (`model_folders.read_metadata`).
        signatures: by name; `serving_default` is among them.
        definitions: `signature_def` as JSON, for TensorFlow Serving's metadata.
        platform: its name in the Open Inference Protocol, version 2.
    """

    metadata: dict[str, Any]
    signatures: dict[str, Signature]
    definitions: dict[str, Any]
    platform: str
