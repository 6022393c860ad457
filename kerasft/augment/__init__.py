"""Augmentation: the operations, their fusion, and the layer that is built from a recipe."""

from kerasft.augment.layer import Augment, build

__all__ = ["AUGMENT_VERSION", "DEFAULT_AUGMENT", "Augment", "build"]

# Part of the key of cached augmentations. It must be raised with any change that gives other pixels for the same draws.
AUGMENT_VERSION = 1

# Of --augment=auto; with flip where mirroring is shown to be harmless.
DEFAULT_AUGMENT = "crop(area=(0.35, 1))"
