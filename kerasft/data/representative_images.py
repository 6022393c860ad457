"""Calibration images: the training images on which ranges of activations are measured."""

import numpy as np

from kerasft.data import pipeline
from kerasft.data.splits import Split

CALIBRATION_IMAGES = 128


def calibration_images(split: Split, size: int) -> np.ndarray:
    """Returns at most 128 images at even distances in the split, float32 [N, S, S, 3], RGB in 0..255."""
    rows = np.unique(np.linspace(0, len(split) - 1, CALIBRATION_IMAGES).astype(int))
    return pipeline.decoded_images(split, rows, size).astype(np.float32)
