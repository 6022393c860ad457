"""Which depths the head sees: chosen on frozen features of the training images, from one forward pass.

The rule of `--features=auto`: the probes of the last 1, 2, 4, 8 ... depths are cross-validated and stacked
(`stacked_probe`). The head sees as many depths as have a share in the stack; the last one alone where the stack is not
measurably better.
"""

import time
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Splits
from kerasft.networks import depths as network_depths
from kerasft.networks import layer_names
from kerasft.networks.network import Network
from kerasft.probes import folds, head_statistics, linear_probe, stacked_probe
from kerasft.probes.linear_probe import Solution
from kerasft.probes.penalised_models import SoftTargets
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import Prefix

# Training images up to which `auto` looks at several depths: of more, their features would not fit into memory.
MAX_AUTO_EXAMPLES = 20_000


class DepthChoice(NamedTuple):
    """What the head sees.

    Attributes:
        network: with the head on these depths.
        solution: of its last layer, from the same forward pass; None where the probe is solved later.
        table: of what was tried: `choice` (a number of depths), `loss`, `accuracy`, `share`, `seconds` in each row.
        reason: why these depths, in half a sentence; empty where nothing was to choose.
        seconds: that it took.
    """

    network: Network
    solution: Solution | None = None
    table: tuple[dict, ...] = ()
    reason: str = ""
    seconds: float = 0.0


def choose(
    config: Config,
    network: Network,
    splits: Splits,
    cache: DiskCache,
    weights: np.ndarray | None = None,
    soft_targets: SoftTargets | None = None,
) -> DepthChoice:
    """Resolves `--features`.

    Args:
        network: whose head sees the last depth.
        cache: keeps the features.
        weights: float [N] of the training examples, or None.
        soft_targets: what a teacher answers to them, or None.

    Raises:
        UserError: more depths than the backbone has, or a head that pools one depth only.
    """
    started, found = time.monotonic(), network_depths.find_depths(network)
    automatic = config.features == "auto"
    if automatic and (reason := _reason_for_last(network, found, len(splits.train))):
        return DepthChoice(network, reason=reason)
    whole = widest(config, network, len(splits.train))
    if whole is network:
        return DepthChoice(network, reason="the head's pooling is for one depth" if automatic else "")
    if network.head_init != "probe" or _has_hidden_layers(whole):
        # Without a probe there is nothing to choose by; hidden layers are not stacked.
        chosen = network if automatic else whole
        return DepthChoice(chosen, reason="several depths are chosen by a linear probe" if automatic else "")
    stacked, features, entry = probe(config, whole, splits, cache, weights, soft_targets=soft_targets)
    chosen = network_depths.with_depths(network, config, whole.depths[-stacked.depths :])
    _keep(chosen, features, entry, splits, cache)
    table = tuple(
        {
            "choice": row.depths,
            "loss": row.loss if len(stacked.losses) else None,
            "accuracy": row.accuracy,
            "share": row.share,
            "seconds": row.seconds,
        }
        for row in stacked.rows
    )
    solution = stacked.solution if stacked.depths > 1 else None
    reason = (
        _reason(stacked, len(whole.depths), network.task)
        if automatic
        else f"as --features says: {stacked.depths} depths"
    )
    console.say(f"features: {reason}")
    return DepthChoice(chosen, solution, table, reason, time.monotonic() - started)


def widest(config: Config, network: Network, examples: int) -> Network:
    """The network whose head sees as many depths as `choose` looks at, or the network itself where that is the last alone.

    Args:
        network: whose head sees the last depth.
        examples: of the training split.

    Raises:
        UserError: more depths than the backbone has, or a head that pools one depth only, under a named number.
    """
    found, automatic = network_depths.find_depths(network), config.features == "auto"
    if config.features == "last" or (automatic and _reason_for_last(network, found, examples)):
        return network
    wanted = len(found) if config.features in ("auto", "all") else int(config.features)
    if wanted > len(found):
        rule = f"{network.name} has {len(found)} depth{'s' * (len(found) != 1)}; choose at most so many, or all"
        raise UserError(f"--features: {rule}. Received: {config.features!r}")
    try:
        return network_depths.with_depths(network, config, found[-wanted:])
    except UserError:
        if not automatic:
            raise
        return network


def probe(
    config: Config,
    network: Network,
    splits: Splits,
    cache: DiskCache,
    weights: np.ndarray | None = None,
    prefix: Prefix | None = None,
    soft_targets: SoftTargets | None = None,
) -> tuple[stacked_probe.Stacked, np.ndarray, feature_cache.Entry | None]:
    """Solves the probe on all depths that a network sees: the solution, the features float32 [N, D], and their entry.

    Features and solution are kept in the cache, so that a run with the same network and images has them at once.
    Arguments as in `choose`; `prefix` gives the features, where it has been made.
    """
    features, entry = _features(network, splits, cache, prefix)
    stacked = _solve(
        features,
        network_depths.widths(network),
        splits,
        network.task,
        config.seed,
        weights,
        soft_targets,
        entry,
        forced=config.features != "auto",
    )
    return stacked, features, entry


def _reason_for_last(network: Network, found: tuple[str, ...], examples: int) -> str:
    """Why `auto` does not look at more than the last depth; empty where it does."""
    if not network.pretrained:
        return "no pretrained features"
    if len(found) == 1:
        return "the backbone has one depth"
    return f"more than {MAX_AUTO_EXAMPLES:,} training images" if examples > MAX_AUTO_EXAMPLES else ""


def _reason(stacked: stacked_probe.Stacked, tried: int, task: str) -> str:
    if not len(stacked.losses):
        return f"the last depth alone, for {folds.NO_FOLDS}"
    if stacked.depths == 1:
        return f"the last depth alone, for several of {tried} are not measurably better by cross-validation"
    kind = "squared error" if task == "regression" else "log loss"
    return (
        f"the last {stacked.depths} of {tried} depths "
        f"(held-out {kind} {stacked.loss:.3f}, the last alone {stacked.rows[0].loss:.3f})"
    )


def _has_hidden_layers(network: Network) -> bool:
    return any(layer.weights for layer in network.head_layers()[1:-1])


def _features(
    network: Network, splits: Splits, cache: DiskCache, prefix: Prefix | None = None
) -> tuple[np.ndarray, feature_cache.Entry | None]:
    """Pooled activations of the training images, float32 [N, D], and their entry in the cache where they fit there."""
    prefix = prefix or feature_cache.make_prefix(network.model_before(layer_names.STANDARDISE))
    if feature_cache.count_bytes(prefix.model, splits.train, "float32") <= disk_cache.available_bytes(cache):
        entry = feature_cache.load_or_compute(cache, prefix, splits.train, network.size)
        return entry.rows, entry
    batches = pipeline.evaluation_stream(splits.train, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
    return prefix.predict(batches), None


def _solve(
    features: np.ndarray,
    widths: list[int],
    splits: Splits,
    task: str,
    seed: int,
    weights: np.ndarray | None,
    soft_targets: SoftTargets | None,
    entry: feature_cache.Entry | None,
    *,
    forced: bool,
) -> stacked_probe.Stacked:
    """`stacked_probe.solve` on standardised features; kept in the folder of their entry."""
    mean, variance = head_statistics.statistics(features, widths)
    labels, outputs = splits.train.labels, len(splits.classes)
    groups = splits.train.groups
    also = (soft_targets, groups) if groups is not None else (soft_targets,) if soft_targets else ()
    given = widths, labels, outputs, task, seed, weights, *also

    def solved() -> dict[str, np.ndarray]:
        standardised = ((features - mean) / np.sqrt(variance)).astype(np.float32)
        return stacked_probe.solve(standardised, *given, forced=forced).to_arrays()

    versions = linear_probe.SOLVER_VERSION, stacked_probe.STACK_VERSION, version("scipy"), version("scikit-learn")
    key_parts = ("depths", features, *given, forced, *versions)
    return stacked_probe.from_arrays(feature_cache.memoize(entry.folder if entry else None, key_parts, solved))


def _keep(
    network: Network, features: np.ndarray, entry: feature_cache.Entry | None, splits: Splits, cache: DiskCache
) -> None:
    """Keeps the columns of the chosen depths as what the network gives before its head: they are not computed again."""
    if entry is None:
        return
    prefix = feature_cache.make_prefix(network.model_before(layer_names.STANDARDISE))
    known = entry._replace(rows=np.ascontiguousarray(features[:, -prefix.model.output.shape[-1] :]))
    feature_cache.load_or_compute(cache, prefix, splits.train, network.size, known=known)
