"""Serving: an exported model behind HTTP, on KServe's server, with batches, limits and new versions while it runs."""

from kerasft.serve.start import serve

__all__ = ["serve"]
