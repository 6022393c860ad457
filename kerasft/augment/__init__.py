"""Augmentation: the operations, their fusion, and the layer that is built from a recipe."""

from kerasft.augment.layer import Augment, build

__all__ = ["AUGMENT_VERSION", "Augment", "build"]

# Part of the key of cached augmentations. It must be raised with any change that gives other pixels for the same draws.
AUGMENT_VERSION = 1
