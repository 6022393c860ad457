"""Augmentation: the operations, their fusion, and the layer that a recipe becomes."""

from kerasft.augment.layer import Augment, build

__all__ = ["Augment", "build"]
