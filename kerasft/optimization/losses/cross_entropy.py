"""Cross-entropy, the default for classes and labels."""

import keras

from kerasft.optimization.losses.formula import Formula, check_label_smoothing


def cross_entropy(label_smoothing: float = 0.0) -> Formula:
    """Cross-entropy of softmax or sigmoids, with smoothed labels (Szegedy et al. 2016, section 7).

    -sum_c q_c log softmax(z)_c, with q = 1 - s + s / C for the label's class and s / C for the others; for several
    labels the binary one, with targets s / 2 and 1 - s / 2, and its mean over the labels.

    Args:
        label_smoothing: s, in [0, 1).
    """
    check_label_smoothing(label_smoothing)
    given = {"label_smoothing": label_smoothing, "from_logits": True}
    return Formula(keras.losses.CategoricalCrossentropy(**given).call, keras.losses.BinaryCrossentropy(**given).call)
