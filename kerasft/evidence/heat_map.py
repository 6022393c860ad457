"""Draws a class activation map over its image."""

import numpy as np

from kerasft.evaluation.faithfulness import enlarge

# Matplotlib's inferno at nine even steps: brighter is more, for every kind of colour vision and in print.
_COLOURS = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ],
    np.float32,
)
# How much the colour covers where the map is highest.
COVER = 0.8
# The perceived brightness of red, green and blue (ITU-R BT.601).
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)


def overlay(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the grey image with the map in colour, uint8 [S, S, 3]. A map of zeros leaves the image grey.

    Args:
        pixels: uint8 [S, S, 3].
        values: float [G, G], not negative. It is drawn in shares of its maximum.
    """
    shares = enlarge(values, len(pixels))
    shares = np.clip(shares / max(float(shares.max()), 1e-12), 0, 1)
    steps = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(shares, steps, channel) for channel in _COLOURS.T], -1)
    grey, cover = (pixels @ _BRIGHTNESS)[..., np.newaxis], COVER * shares[..., np.newaxis]
    return np.uint8(np.round(grey * (1 - cover) + colour * cover))
