"""Serving: an exported model over HTTP on KServe's server, with dynamic batching, limits and model versions."""

from kerasft.serve.start import serve

__all__ = ["serve"]
