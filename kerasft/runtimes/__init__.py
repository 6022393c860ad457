"""Loaded models: one contract, and a file for each kind of runtime. TensorFlow is imported only for a SavedModel."""

from kerasft.runtimes.loading import load
from kerasft.runtimes.model import InvalidImage, LoadedModel, Signature, TensorSpec

__all__ = ["InvalidImage", "LoadedModel", "Signature", "TensorSpec", "load"]
