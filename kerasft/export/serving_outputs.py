"""What an exported model answers through its serving signature, from the encoded bytes of images."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasft.data.splits import Split
from kerasft.export import serving_warmup

# Images of a request.
BATCH_SIZE = 32


def serving_outputs(folder: Path, task: str, split: Split, names: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """What `serving_default` of a SavedModel gives for the encoded bytes of examples, by name.

    Its warm-up requests are sent first: one that failed would keep TensorFlow Serving from loading the model.

    Args:
        folder: of the version.
        task: of the model.
        split: the examples.
        names: of other outputs. Those that the model does not have are left out.

    Returns:
        `probabilities` float32 [N, C] or `values` float32 [N, D], and the outputs of `names` [N, ...].
    """
    # The model owns the variables of its signatures, so it is kept as long as they are used.
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    for contents in serving_warmup.requests(folder):
        serve(image_bytes=contents)
    kept = {answer_key(task), *names} & set(serve.structured_outputs)
    found: dict[str, list[np.ndarray]] = {name: [] for name in kept}
    for start in range(0, len(split), BATCH_SIZE):
        contents = [split.read(index) for index in range(start, min(start + BATCH_SIZE, len(split)))]
        given = serve(image_bytes=tf.constant(contents))
        for name, parts in found.items():
            parts.append(given[name].numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def answer_key(task: str) -> str:
    """The name of the output that holds the answers of a task."""
    return "values" if task == "regression" else "probabilities"
