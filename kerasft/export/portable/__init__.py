"""Portable artefacts: files for other runtimes, each with a small program that runs it without kerasft; one file a format."""

from kerasft.export.portable.keras import keras
from kerasft.export.portable.litert import litert
from kerasft.export.portable.onnx import onnx
from kerasft.export.portable.openvino import openvino

# What `--export` names, apart from `savedmodel`. A new format is one file, its name here, and its runtime in `standalone/`.
FORMATS = {"keras": keras, "litert": litert, "onnx": onnx, "openvino": openvino}

__all__ = ["keras", "litert", "onnx", "openvino"]
