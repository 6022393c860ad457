"""The file with which TensorFlow Serving warms a model up: requests that it answers before it lets others in.

It is a TFRecord of `PredictionLog` messages in `assets.extra/tf_serving_warmup_requests`
(tensorflow.org/tfx/serving/saved_model_warmup). The package tensorflow-serving-api has these messages, but it wants
TensorFlow to be installed as its publisher names it. So the few fields that are needed are described here. They stand in
a pool of their own, so that both can be imported into one process.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

# Images in each request. A server prepares for each batch size by itself.
BATCH_SIZES = (1, 8, 32)

# Different images among all requests.
MAX_IMAGES = 8

# Where TensorFlow Serving looks for the requests.
FILE = Path("assets.extra", "tf_serving_warmup_requests")

_JPEG_QUALITY = 90
_FIELD = descriptor_pb2.FieldDescriptorProto
_TEXT, _BYTES = _FIELD.TYPE_STRING, _FIELD.TYPE_BYTES
_PACKAGE = "tensorflow.serving"

# Message: field: number and type, from tensorflow_serving/apis/{prediction_log,predict,model}.proto. An entry of a
# map<string, TensorProto> is on the wire a repeated message of key and value, and a TensorProto is its bytes.
_MESSAGES = {
    "ModelSpec": {"name": (1, _TEXT), "signature_name": (3, _TEXT)},
    "Input": {"key": (1, _TEXT), "value": (2, _BYTES)},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "Input")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}


def write(folder: Path, name: str, images: Sequence[tf.Tensor]) -> None:
    """Writes the requests into a SavedModel's folder.

    Args:
        folder: of the SavedModel.
        name: of the model, as it is served.
        images: uint8 [S, S, 3] each, at least one. They are encoded anew as JPEG, so nothing else of their files
            (place, camera, time) is kept.
    """
    encoded = [tf.io.encode_jpeg(image, quality=_JPEG_QUALITY).numpy() for image in images]
    (folder / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as file:
        for size in BATCH_SIZES:
            contents = [encoded[i % len(encoded)] for i in range(size)]
            file.write(_log(name, contents).SerializeToString())


def requests(folder: Path) -> list[tf.Tensor]:
    """The `image_bytes` of each request that a SavedModel's folder holds, string [N] each; empty without the file."""
    if not (folder / FILE).is_file():
        return []
    records = tf.data.TFRecordDataset(str(folder / FILE))
    logs = [_message("PredictionLog").FromString(record.numpy()) for record in records]
    tensors = [tensor_pb2.TensorProto.FromString(log.predict_log.request.inputs[0].value) for log in logs]
    return [tf.constant(tf.make_ndarray(tensor)) for tensor in tensors]


def _log(name: str, contents: list[bytes]):
    tensor = tf.make_tensor_proto(contents, tf.string, [len(contents)])
    log = _message("PredictionLog")()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = name, "serving_default"
    request.inputs.add(key="image_bytes", value=tensor.SerializeToString())
    return log


def _message(name: str) -> type:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="kerasft/warmup.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = _FIELD.LABEL_REPEATED if field == "inputs" else _FIELD.LABEL_OPTIONAL
            described = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                described.type, described.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                described.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
