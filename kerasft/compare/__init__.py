"""Strategies side by side: the same images, splits, seed and caches, one run for each; a table and a page of what they reach."""

from kerasft.compare.side_by_side import FLAGS, compare

__all__ = ["FLAGS", "compare"]
