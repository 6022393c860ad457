"""What maps explain, and the check of maps on a sample of images: against random maps, and those of other images."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerasft.evaluation import faithfulness, scoring
from kerasft.evaluation.faithfulness import Areas
from kerasft.networks import class_activation
from kerasft.networks.class_activation import Method

# So many images are checked.
MAX_IMAGES = 24

# From images float32 [N, S, S, 3] to what is explained of them: probabilities float [N, C], or standardised values [N, D].
Answers = Callable[[np.ndarray], np.ndarray]


def make_answers(model: keras.Model, task: str) -> Answers:
    """Returns the function of a network; the network as in `class_activation.find_methods`."""
    predict = scoring.make_predictor(class_activation.logits_model(model))

    def answers(images: np.ndarray) -> np.ndarray:
        size = faithfulness.BATCH_SIZE
        logits = predict(images[start : start + size] for start in range(0, len(images), size))
        return scoring.apply_activation(task, logits)

    return answers


def choose(answers: np.ndarray, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Chooses what is explained of each image: columns int [N] and signs float [N].

    That is the most probable class or label. Under regression it is the target farthest from its mean over the training
    images, in standard deviations, and the side on which it lies.
    """
    columns = (np.abs(answers) if task == "regression" else answers).argmax(-1)
    if task != "regression":
        return columns, np.ones(len(answers))
    return columns, np.where(answers[np.arange(len(answers)), columns] < 0, -1.0, 1.0)


def count_scored(methods: dict[str, Method], n: int) -> int:
    """Returns how many images `check` scores for a sample of n."""
    return len(methods) * n * (4 + 2 * (faithfulness.STEPS - 1) * (2 + faithfulness.RANDOM_MAPS))


def check(
    answers: Answers,
    methods: dict[str, Method],
    images: np.ndarray,
    task: str,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, Any], dict[str, Areas]]:
    """Measures the maps of each method by deletion and insertion.

    Args:
        answers: of `make_answers`.
        methods: by name.
        images: float32 [N, S, S, 3]; a sample of the test images.
        task: `single_label`, `multi_label` or `regression`.
        advance: called with the number of images that were scored, of `count_scored` in all.

    Returns:
        Figures for `explain.json`, and the areas of each image by method, `Areas` of float64 [N].
    """
    began = time.monotonic()
    columns, signs = choose(answers(images), task)

    def score(variants: np.ndarray, rows: np.ndarray) -> np.ndarray:
        advance(len(rows))
        return answers(variants)[np.arange(len(rows)), columns[rows]] * signs[rows]

    figures: dict[str, Any] = {"n": len(images), "steps": faithfulness.STEPS, "random_maps": faithfulness.RANDOM_MAPS}
    figures["least"] = faithfulness.MIN_DIFFERENCE
    by_image = {}
    for name, method in methods.items():
        maps = method.compute(images, columns, signs)[:, np.newaxis]
        # The map of the image before it: as smooth, and as centred, but of another image.
        others = np.roll(maps, 1, axis=0)
        stacked = np.concatenate([maps, others, faithfulness.random_maps(len(images), method.side)], 1)
        found = faithfulness.areas(score, images, stacked)
        own, other, random = (
            Areas(*(area[:, columns_].mean(1) for area in found)) for columns_ in ([0], [1], slice(2, None))
        )
        against = faithfulness.compare(own, random)
        figures[name] = {"verdict": against.verdict, "against_random": _figures(against)}
        # A single image has no other.
        if len(images) > 1:
            against = faithfulness.compare(own, other)
            figures[name] |= {"verdict_other": against.verdict, "against_other_images": _figures(against)}
        by_image[name] = own
    figures["seconds"] = round(time.monotonic() - began, 2)
    return figures, by_image


def _figures(comparison: faithfulness.Comparison) -> dict[str, dict[str, float | None]]:
    """As JSON; a number that is not finite is None."""
    return {
        name: {key: value if np.isfinite(value) else None for key, value in row._asdict().items()}
        for name, row in comparison._asdict().items()
    }
