"""The files of docs/serving are what TensorFlow Serving's .proto files, and KServe, take."""

import pytest
from conftest import ROOT
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

FILES = ROOT / "docs" / "serving"
# Message: field: number, kind and whether repeated; from session_bundle_config.proto, monitoring_config.proto,
# model_server_config.proto and file_system_storage_path_source.proto. A map is a repeated entry of key and value.
MESSAGES = {
    "Int": {"value": (1, "int64")},
    "BatchingParameters": {
        "max_batch_size": (1, "Int"),
        "batch_timeout_micros": (2, "Int"),
        "max_enqueued_batches": (3, "Int"),
        "num_batch_threads": (4, "Int"),
        "allowed_batch_sizes": (6, "int64", True),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    "Specific": {"versions": (1, "int64", True)},
    "Policy": {"specific": (102, "Specific")},
    "Label": {"key": (1, "string"), "value": (2, "int64")},
    "ModelConfig": {
        "name": (1, "string"),
        "base_path": (2, "string"),
        "model_platform": (4, "string"),
        "model_version_policy": (7, "Policy"),
        "version_labels": (8, "Label", True),
    },
    "ModelConfigList": {"config": (1, "ModelConfig", True)},
    "ModelServerConfig": {"model_config_list": (1, "ModelConfigList")},
}


@pytest.fixture(scope="module")
def read():
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", package="x", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, *repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            described = message.field.add(name=field, number=number, label=label)
            if kind in MESSAGES:
                described.type, described.type_name = kinds.TYPE_MESSAGE, f".x.{kind}"
            else:
                described.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    def parse(file: str, message: str):
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"x.{message}"))
        return text_format.Parse((FILES / file).read_text(), kind())

    return parse


def test_batching(read):
    from kerasft.export import serving_warmup
    from kerasft.predict import batches

    found = read("batching.config", "BatchingParameters")
    sizes = list(found.allowed_batch_sizes)
    assert sizes == sorted(sizes)
    assert sizes[-1] == found.max_batch_size.value  # TensorFlow Serving's rules
    assert tuple(sizes) == serving_warmup.SIZES
    assert found.max_batch_size.value >= batches.BATCH_SIZE
    assert found.num_batch_threads.value >= 1


def test_monitoring(read):
    found = read("monitoring.config", "MonitoringConfig").prometheus_config
    assert (found.enable, found.path) == (True, "/monitoring/prometheus/metrics")
    assert found.path in (ROOT / "docs" / "tensorflow_serving.md").read_text()


def test_models(read):
    (found,) = read("models.config", "ModelServerConfig").model_config_list.config
    assert (found.name, found.base_path, found.model_platform) == ("photos", "/models/photos", "tensorflow")
    assert {label.value for label in found.version_labels} <= set(found.model_version_policy.specific.versions)


def test_kserve():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((FILES / "kserve.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    model = found["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["storageUri"].endswith("/photos")
