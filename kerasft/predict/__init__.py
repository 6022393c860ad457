"""Predictions for image files, from an exported SavedModel or from a server."""

from kerasft.predict.label_images import predict

__all__ = ["predict"]
