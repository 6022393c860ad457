"""Augmentation: the operations, their fusion, and the layer that a recipe becomes."""

from kerasft.augment.layer import Augment, build

__all__ = ["AUGMENT_VERSION", "Augment", "build"]

# Part of the key of cached augmented views. To be raised where any operation gives other pixels for the same draws.
AUGMENT_VERSION = 1
