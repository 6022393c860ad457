"""Predictions for files on disk, from an exported SavedModel or from a server that has it."""

from kerasft.predict.label_images import predict

__all__ = ["predict"]
