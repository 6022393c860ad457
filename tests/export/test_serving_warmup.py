"""TensorFlow Serving's warm-up file: the messages that it reads, with images that tell nothing but themselves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasft.export import serving_warmup


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    images = [tf.constant(rng.integers(0, 255, (32, 32, 3), np.uint8)) for _ in range(3)]
    serving_warmup.write(tmp_path, "flowers & more", images)
    return tmp_path


def test_requests_are_of_several_sizes(folder):
    found = serving_warmup.requests(folder)
    assert [len(batch) for batch in found] == [1, 8, 32]
    assert len(set(found[1].numpy())) == 3
    assert all(tf.io.decode_jpeg(content).shape == (32, 32, 3) for content in found[2])
    assert serving_warmup.requests(folder / "none") == []


def test_a_record_is_what_protoc_would_read(folder):
    """By the encoding's own rules (protobuf.dev/programming-guides/encoding), independent of the descriptors."""

    def fields(data: bytes) -> dict[int, bytes]:
        found, place = {}, 0

        def number() -> int:
            nonlocal place
            value = shift = 0
            while True:
                byte = data[place]
                place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
                if byte < 128:
                    return value

        while place < len(data):
            tag = number()
            assert tag & 7 == 2  # length-delimited
            size = number()
            found[tag >> 3] = data[place : place + size]
            place += size
        return found

    first = next(iter(tf.data.TFRecordDataset(str(folder / serving_warmup.FILE)))).numpy()
    request = fields(fields(fields(first)[6])[1])
    assert fields(request[1]) == {1: b"flowers & more", 3: b"serving_default"}
    assert fields(request[2])[1] == b"image_bytes"
    proto = type(tf.make_tensor_proto(0)).FromString(fields(request[2])[2])
    assert tf.make_ndarray(proto).tolist() == serving_warmup.requests(folder)[0].numpy().tolist()


def test_the_messages_of_tensorflow_serving_read_it(folder):
    """With its own package, where it is installed; beside ours, in one process."""
    pytest.importorskip("tensorflow_serving")
    code = """
import sys
import tensorflow as tf
from pathlib import Path
from kerasft.export import serving_warmup as warmup
from tensorflow_serving.apis import prediction_log_pb2
folder = Path(sys.argv[1])
ours = warmup.requests(folder)
for record, batch in zip(tf.data.TFRecordDataset(str(folder / warmup.FILE)), ours, strict=True):
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
    request = log.predict_log.request
    assert log.WhichOneof("log_type") == "predict_log"
    assert (request.model_spec.name, request.model_spec.signature_name) == ("flowers & more", "serving_default")
    assert list(request.inputs) == ["image_bytes"]
    assert tf.make_ndarray(request.inputs["image_bytes"]).tolist() == batch.numpy().tolist()
    assert log.SerializeToString(deterministic=True) == record.numpy()
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
