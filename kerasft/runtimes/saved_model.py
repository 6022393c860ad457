"""A SavedModel in TensorFlow."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from kerasft.export import model_folders, saved_model
from kerasft.runtimes.model import InvalidImage, LoadedModel, Signature, TensorSpec
from kerasft.settings.errors import UserError


def load(folder: Path) -> LoadedModel:
    """Loads a SavedModel. Signatures with several inputs, or with a fixed batch size, are left out.

    Raises:
        UserError: it is damaged, or `serving_default` does not have one input with a free batch dimension.
    """
    loaded = saved_model.load(folder)
    graph = saved_model_pb2.SavedModel.FromString((folder / model_folders.SAVED_MODEL_FILE).read_bytes())
    signatures = {}
    for name, function in loaded.signatures.items():
        inputs = function.structured_input_signature[1]
        (key, spec), *more = inputs.items()
        if not more and spec.shape.rank and spec.shape[0] is None and spec.shape[1:].is_fully_defined():
            outputs = {one: _spec(given) for one, given in sorted(function.structured_outputs.items())}
            signatures[name] = Signature(key, _spec(spec), outputs, partial(_call, loaded, name, key))
    if "serving_default" not in signatures:
        rule = "must be a SavedModel that kerasft has exported, with a signature 'serving_default' of one input"
        raise UserError(f"--model: {rule}. Received: '{folder}'")
    metadata = model_folders.read_metadata(folder)
    return LoadedModel(metadata, signatures, _definitions(graph.meta_graphs[0]), "tensorflow_savedmodel")


def _spec(spec: tf.TensorSpec) -> TensorSpec:
    shape = tuple(spec.shape) if spec.shape.rank is not None else ()
    return TensorSpec(shape, np.dtype(spec.dtype.as_numpy_dtype))


def _call(loaded: Any, name: str, key: str, instances: list) -> dict[str, np.ndarray]:
    """Calls a signature. The reference to `loaded` keeps its variables alive."""
    values = np.stack(instances) if isinstance(instances[0], np.ndarray) else instances
    try:
        outputs = loaded.signatures[name](**{key: tf.constant(values)})
        # TensorFlow gives them in any order.
        return {name: outputs[name].numpy() for name in sorted(outputs)}
    except tf.errors.InvalidArgumentError as error:
        raise InvalidImage(error.message) from None


def _definitions(graph: Any) -> dict:
    """Returns `signature_def` as protocol buffer JSON with the fields that TensorFlow Serving shows."""
    return {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in graph.signature_def.items()
    }
