"""`--robustness`: the score of the served network on corrupted test images, and under attack."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Split
from kerasft.evaluation import attacks, corruptions, scoring
from kerasft.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from kerasft.evaluation.score_names import TITLES
from kerasft.evaluation.scoring import Predictor, Scorer
from kerasft.job.reference_models import ReferenceModels
from kerasft.networks.network import Network
from kerasft.report.robustness import measured_score
from kerasft.settings import machine

# What each level measures, the cheapest first: the most test images under corruptions, and under attack.
LEVELS = {"none": (0, 0), "quick": (128, 0), "full": (2**31, 64)}
# Images that are decoded, and corrupted in each way, at a time.
CHUNK = 64


def adds(level: str, metrics: dict[str, Any]) -> bool:
    """Whether a level measures more than a finished run has measured."""
    order = list(LEVELS)
    return order.index(level) > order.index(metrics.get("robustness_summary", {}).get("level", "none"))


def measure(
    level: str,
    network: Network,
    forward: Predictor,
    test: Split,
    scorer: Scorer,
    seed: int,
    fitted: ReferenceModels | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores the network on corrupted test images.

    Args:
        level: a name of `LEVELS`.
        network: trained, in float32.
        forward: the served network: from batches of images to outputs.
        test: the test split.
        scorer: with the scale of the training targets.
        seed: of the corruptions and of the attacks.
        fitted: the reference models, which `full` scores on the same corrupted images. Their features are a forward pass more.

    Returns:
        For `metrics.json`; empty under `none`. `robustness`: for each corruption the score at the strengths 1 to 5.
        `robustness_summary`: `level`, `n`, `score` (its name), `clean` (the score on the same images as they are), `values` of
        the strengths, and `mean` over all corruptions and strengths. Under `full` also `attacks`, see `_attack`, and with reference models
        `robustness_baselines`: for each the scores as in `robustness`, `clean` and `mean`.
    """
    most, attacked = LEVELS[level]
    if not most:
        return {}
    rows = _spread(len(test), most)
    predictors = [forward]
    if with_models := level == "full" and fitted is not None and bool(fitted.answers(_queries(len(rows)))):
        predictors.append(_reference_outputs(fitted, len(rows)))
    outputs, *of_models = _outputs(network, predictors, test, rows, seed)
    scorer = replace(scorer, labels=test.labels[rows], weights=None)
    scores, clean, mean = _scores(scorer, outputs)
    summary = {"level": level, "n": len(rows), "score": scorer.key, "clean": clean, "mean": mean}
    summary["values"] = {name: list(one.values) for name, one in CORRUPTIONS.items()}
    found = {"robustness": scores, "robustness_summary": summary}
    if with_models:
        found["robustness_baselines"] = {}
        for index, name in enumerate(fitted.answers(_queries(len(rows)))):
            scores, clean, mean = _scores(scorer, {kind: each[index] for kind, each in of_models[0].items()})
            found["robustness_baselines"][name] = {**scores, "clean": clean, "mean": mean}
    return found | ({"attacks": _attack(network, test, scorer, attacked, seed)} if attacked else {})


def _queries(count: int) -> int:
    """Images that a reference model answers: each as it is, and in each way corrupted."""
    return count * (1 + len(CORRUPTIONS) * len(STRENGTHS))


def _reference_outputs(fitted: ReferenceModels, count: int) -> Predictor:
    """From batches of images to the outputs of all reference models, float64 [models, N, ...]."""
    embed, answers = fitted.embedder(), fitted.answers(_queries(count)).values()

    def predict(batches: Iterable) -> np.ndarray:
        features = embed(batches)
        return np.stack([answer(features) for answer in answers])

    return predict


def _scores(scorer: Scorer, outputs: dict[tuple[str, int], np.ndarray]) -> tuple[dict[str, list[float]], float, float]:
    """The scores of each corruption at all strengths, the score without any, and the mean of the former."""
    scores = {name: [scorer.score(outputs[name, strength]) for strength in STRENGTHS] for name in CORRUPTIONS}
    return scores, scorer.score(outputs["", 0]), float(np.mean(list(scores.values())))


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many of the rows 0..count-1, evenly spread. The images of a class follow each other, so all are in it."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _outputs(
    network: Network, predictors: list[Predictor], test: Split, rows: np.ndarray, seed: int
) -> list[dict[tuple[str, int], np.ndarray]]:
    """What each predictor gives for the images of rows, by corruption and strength; `("", 0)` for those as they are.

    The first gives outputs [N, ...], the second, if there is one, those of several models, [models, N, ...].
    """
    kinds = [("", 0), *((name, strength) for name in CORRUPTIONS for strength in STRENGTHS)]
    found = [{kind: [] for kind in kinds} for _ in predictors]
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    with (
        console.progress("robustness", len(kinds) * len(rows)) as advance,
        ThreadPoolExecutor(machine.cpu_count()) as pool,
    ):
        for kind, images in _corrupted(network, test, chunks, kinds, seed, pool):
            for predict, parts in zip(predictors, found):
                parts[kind].append(predict([images]))
            advance(len(images))
    return [{kind: np.concatenate(each, axis) for kind, each in parts.items()} for axis, parts in enumerate(found)]


def _corrupted(
    network: Network,
    test: Split,
    chunks: list[np.ndarray],
    kinds: list[tuple[str, int]],
    seed: int,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[tuple[str, int], np.ndarray]]:
    """Yields kinds and images, float32 [B, S, S, 3]. The next ones are made while the network looks at these."""
    ahead = None
    for chunk in chunks:
        images, files = pipeline.decoded_images(test, chunk, network.size), [str(test.ids[row]) for row in chunk]
        for kind in kinds:
            made = [pool.submit(_corrupt, kind, image, seed, file) for image, file in zip(images, files, strict=True)]
            if ahead:
                yield ahead[0], np.stack([one.result() for one in ahead[1]]).astype(np.float32)
            ahead = kind, made
    if ahead:
        yield ahead[0], np.stack([one.result() for one in ahead[1]]).astype(np.float32)


def _corrupt(kind: tuple[str, int], image: np.ndarray, seed: int, file: str) -> np.ndarray:
    name, strength = kind
    return corruptions.corrupt(name, image, strength, seed, file)


def _attack(network: Network, test: Split, scorer: Scorer, most: int, seed: int) -> dict[str, Any]:
    """The score under FGSM and PGD on at most so many images.

    Returns:
        `n`, `clean`, `epsilons` (levels of 0..255), and for `fgsm` and `pgd` the score at each.
    """
    rows = _spread(len(test), most)
    images = pipeline.decoded_images(test, rows, network.size).astype(np.float32)
    served, labels = network.served(), test.labels[rows]
    gradient = attacks.make_gradient(served, network.task, labels, scorer.scale)
    scorer, predict = replace(scorer, labels=labels), scoring.make_predictor(served)

    def score(changed: np.ndarray) -> float:
        return scorer.score(predict([changed]))

    return {
        "n": len(rows),
        "clean": score(images),
        "epsilons": list(attacks.EPSILONS),
        "fgsm": [score(attacks.fgsm(gradient, images, epsilon)) for epsilon in attacks.EPSILONS],
        "pgd": [score(attacks.pgd(gradient, images, epsilon, seed)) for epsilon in attacks.EPSILONS],
    }


def summarise(metrics: dict[str, Any]) -> None:
    """Prints the mean score under corruptions; nothing without `--robustness`."""
    if found := metrics.get("robustness_summary"):
        scores = metrics["robustness"]
        score = TITLES[measured_score(metrics)]
        means = {name: float(np.mean(values)) for name, values in scores.items()}
        worst = (max if metrics["task"] == "regression" else min)(means, key=means.get)
        shown = [console.format_metric(value) for value in (found["clean"], found["mean"], means[worst])]
        console.say(
            f"robustness: {score} {shown[0]} on {found['n']} test images as they are, {shown[1]} on average over "
            f"{len(means)} corruptions; worst: {worst.replace('_', ' ')} ({shown[2]})"
        )
