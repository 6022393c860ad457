"""Augmentation: the operations, and the layer that fuses them."""

from kerasft.augment.layer import Augment, build

__all__ = ["Augment", "build"]
