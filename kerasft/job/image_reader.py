"""Images by their paths, for the pages. A missing or damaged image is grey."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from kerasft.data.decode import decode_batch
from kerasft.data.listing import Listing


def make_reader(listing: Listing, size: int) -> Callable[[Sequence[str]], list[np.ndarray]]:
    """Returns a function from paths to decoded images, uint8 [S, S, 3] each."""
    places = {str(name): index for index, name in enumerate(listing.ids)}

    def image(name: str) -> np.ndarray:
        try:
            return decode_batch(tf.constant([listing.read(places[name])]), size, listing.framing).numpy()[0]
        except (KeyError, OSError, ValueError, tf.errors.InvalidArgumentError):
            return np.full((size, size, 3), 128, np.uint8)

    return lambda names: [image(name) for name in names]
