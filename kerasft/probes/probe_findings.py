"""Doubts: findings about labels and images that a probe on frozen features has, for `audit.json`."""

import numpy as np

from kerasft.console import console, wording
from kerasft.data import pipeline
from kerasft.data.listing import Finding
from kerasft.data.splits import Split
from kerasft.networks import depths, layer_names
from kerasft.networks.network import Network
from kerasft.probes import head_statistics, held_out, suspects
from kerasft.probes.suspects import Suspects
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.disk_cache import DiskCache

# Fewer images tell nothing.
MIN_IMAGES = 20


def examine(network: Network, split: Split, classes: tuple[str, ...], seed: int, cache: DiskCache) -> list[Finding]:
    """Finds suspect labels and outliers, the most suspicious first. Only the last depth's features are used.

    Args:
        network: with frozen, pretrained weights, as training begins with them.
        split: the images.
        classes: names of the C classes or the D targets.
        seed: of the folds.
        cache: has the features of a training split already, or takes them.
    """
    if not can_judge(network, len(split)):
        return []
    values = _features(network, split, cache)[:, -depths.widths(network)[-1] :]
    mean, variance = head_statistics.statistics(values)
    features = ((values - mean) / np.sqrt(variance)).astype(np.float32)
    predicted = held_out.predict(features, split.labels, len(classes), network.task, seed, split.groups)
    found = suspects.find(features, split.labels, predicted, network.task, seed)
    findings = [*describe_labels(split, classes, network.task, predicted, found), *describe_outliers(split, found)]
    _say(findings, len(split))
    return findings


def can_judge(network: Network, images: int) -> bool:
    """Whether a probe on the features of so many images tells anything about their labels."""
    return network.pretrained and images >= MIN_IMAGES


def _features(network: Network, split: Split, cache: DiskCache) -> np.ndarray:
    part = network.model_before(layer_names.STANDARDISE)
    prefix = feature_cache.make_prefix(part)
    if feature_cache.count_bytes(part, split, "float32") <= disk_cache.available_bytes(cache):
        return np.asarray(feature_cache.load_or_compute(cache, prefix, split, network.size).rows)
    batches = pipeline.evaluation_stream(split, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
    return prefix.predict(batches)


def describe_labels(
    split: Split, classes: tuple[str, ...], task: str, predicted: np.ndarray, found: Suspects
) -> list[Finding]:
    """Returns a finding `suspect_label` for each image whose label is probably wrong, with what the probe suggests."""
    rows, findings = np.flatnonzero(found.is_suspect), []
    for row in rows[np.argsort(-found.label_scores[rows], kind="stable")]:
        label, guess = split.labels[row], predicted[row]
        if task == "single_label":
            best = int(guess.argmax())
            suggested = classes[best]
            detail = (
                f"labelled {classes[label]}, and looks like {suggested} ({guess[best]:.0%}, against {guess[label]:.0%})"
            )
        elif task == "multi_label":
            off = int(np.nanargmax(np.abs(label - guess)))
            has = (label > 0) ^ (np.arange(len(classes)) == off)
            suggested = "|".join(name for name, present in zip(classes, has) if present)
            said = "has" if label[off] > 0 else "lacks"
            detail = f"{said} the label {classes[off]}, whose probability is {guess[off]:.0%}"
        else:
            given, suggested = (
                ", ".join(f"{name}={value:.4g}" for name, value in zip(classes, values, strict=True))
                for values in (label, guess)
            )
            detail = f"labelled {given}, and looks like {suggested}"
        score = round(float(found.label_scores[row]), 4)
        findings.append(Finding(str(split.ids[row]), "suspect_label", "warn", detail, score, suggested))
    return findings


def describe_outliers(split: Split, found: Suspects) -> list[Finding]:
    """Returns a finding `outlier` for each image that is far from all others."""
    rows = np.flatnonzero(found.is_outlier)
    detail = "is far from its nearest neighbours: is it of this data at all?"
    return [
        Finding(str(split.ids[row]), "outlier", "warn", detail, round(float(found.outlier_scores[row]), 4))
        for row in rows[np.argsort(-found.outlier_scores[rows], kind="stable")]
    ]


def _say(findings: list[Finding], count: int) -> None:
    labels = sum(finding.kind == "suspect_label" for finding in findings)
    outliers = len(findings) - labels
    if findings:
        console.say(
            f"suspects: {wording.count(labels, 'label')} of {count:,} may be wrong, {wording.count(outliers, 'outlier')}; "
            "see suspects.csv in the run folder"
        )
