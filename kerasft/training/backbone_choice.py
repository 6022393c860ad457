"""Which network of a list: a probe on the frozen features of training images is cross-validated for each.

Larger networks are better as a rule, and few images cannot show by how much. So a network is left out only where it is
measurably worse, and a cheaper one is taken only where it is shown to lose nothing that matters (`pick`).
"""

import re
import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from kerasft.console import console
from kerasft.console.columns import columns
from kerasft.console.wording import percent
from kerasft.data.splits import Splits, example_weights
from kerasft.evaluation import intervals
from kerasft.networks import layer_names
from kerasft.networks import network as networks
from kerasft.networks.multiplications import multiplications
from kerasft.networks.network import Network
from kerasft.probes import depth_choice, folds, sampling
from kerasft.settings.config import Config
from kerasft.storage import feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import Prefix
from kerasft.training import forward_speed, head_init

# Images whose features are computed by each network, and more where a class would have too few of them.
MAX_IMAGES = 1_500
# A loss that is higher by less than this share of it, or by less than this, does not matter.
MAX_RELATIVE_GAP, MAX_GAP = 0.05, 0.01
# Forward passes are timed for so many seconds.
TIMED_SECONDS = 0.5


class Contender(NamedTuple):
    """A network that was built.

    Attributes:
        choice: as `--backbone` takes it.
        network: as it was built, before any training.
        widest: the same network, whose head sees all depths that are looked at.
        prefix: images to the features of these depths.
        multiplications: of a forward pass over one image.
        images_per_second: of a forward pass; None where nothing is measured.
    """

    choice: str
    network: Network
    widest: Network
    prefix: Prefix
    multiplications: int
    images_per_second: float | None


class BackboneChoice(NamedTuple):
    """The place of a contender in the list, why, and what was measured of each.

    A row holds `choice`, `loss`, `accuracy` (of single labels), `seconds`, `parameters` and `macs` of the network, and
    `images_per_second`.
    """

    place: int
    reason: str
    table: list[dict[str, Any]]


def contender(config: Config, choice: str, network: Network, examples: int) -> Contender:
    """Prepares a network, and times its forward pass. Under `--deterministic` nothing is timed.

    Args:
        choice: as `--backbone` takes it.
        network: as it was built.
        examples: that may be for training.

    Raises:
        UserError: `--features` does not fit the network.
    """
    widest = depth_choice.widest(config, network, min(examples, MAX_IMAGES))
    prefix = feature_cache.make_prefix(widest.model_before(layer_names.STANDARDISE))
    speed = None if config.deterministic else forward_speed.measure(prefix.predict, network.size, TIMED_SECONDS)
    return Contender(choice, network, widest, prefix, multiplications(network.model), speed)


def choose(config: Config, contenders: list[Contender], splits: Splits, size: int, cache: DiskCache) -> BackboneChoice:
    """Chooses by `pick`: paired held-out losses of folds of training images.

    Args:
        config: the settings.
        contenders: in the user's order. Where nothing can be measured, the first is taken.
        splits: of which only train is read.
        size: side of the images that are stored, in pixels. A network of another size decodes anew.
        cache: keeps the features. Where the sample is all of train, a run on the chosen network has them at once.
    """
    if missing := _missing_evidence(contenders, len(splits.train)):
        return BackboneChoice(0, f"{missing}: the first of the list", [])
    task, classes = splits.task, splits.classes
    rows = sampling.sample(splits.train.labels, len(classes), task, config.seed, MAX_IMAGES)
    weights = example_weights(splits.train, classes, task)[rows] if config.class_weights == "balanced" else None
    part = sampling.part(splits.train, rows, splits.train.framing)
    order = sorted(range(len(contenders)), key=lambda place: contenders[place].multiplications)
    losses, table = [], []
    for place in order:
        one, started = contenders[place], time.monotonic()
        seen = part if one.network.size == size else replace(part, images=None)
        if config.preprocessing == "dataset":
            networks.set_pixel_statistics(one.network, *head_init.pixel_statistics(seen, one.network.size))
            one = one._replace(prefix=feature_cache.make_prefix(one.prefix.model))
        found, *_ = depth_choice.probe(config, one.widest, replace(splits, train=seen), cache, weights, one.prefix)
        if not len(found.losses):
            return BackboneChoice(0, f"{folds.NO_FOLDS}; the first of the list", [])
        losses.append(found.losses)
        row = {"choice": one.choice, "loss": found.loss}
        row |= {} if found.accuracy is None else {"accuracy": found.accuracy}
        row |= {"seconds": round(time.monotonic() - started, 3), "parameters": one.prefix.model.count_params()}
        row |= {"macs": one.multiplications}
        row |= {} if one.images_per_second is None else {"images_per_second": round(one.images_per_second, 1)}
        table.append(row)
    best = pick(losses)
    return BackboneChoice(order[best], _reason(best, losses, len(rows), table), table)


def pick(losses: list[np.ndarray]) -> int:
    """Returns the place of the network that is taken.

    A network is out where its loss is more than one standard error above the lowest. The largest of the others is
    taken, or the cheapest whose loss is shown to be not higher than that of the largest: the difference and one standard
    error are within `MAX_RELATIVE_GAP` of its loss, or within `MAX_GAP`. Standard errors are those of paired differences.

    Args:
        losses: float64 [N] each, of the same examples; the fewest multiplications first.
    """
    lowest = min(losses, key=np.mean)
    gaps = [_gap(each, lowest) for each in losses]
    largest = losses[max(index for index, (gap, error) in enumerate(gaps) if gap <= error)]
    margin = max(MAX_RELATIVE_GAP * largest.mean(), MAX_GAP)
    # The largest itself is always within the margin.
    return next(index for index, each in enumerate(losses) if sum(_gap(each, largest)) <= margin)


def _gap(losses: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """The mean difference of paired losses, and its standard error."""
    gap = losses - others
    return float(gap.mean()), intervals.standard_error(gap)


def _missing_evidence(contenders: list[Contender], count: int) -> str:
    """Returns why nothing can be measured, in half a sentence; empty where it can."""
    if not any(one.network.pretrained for one in contenders):
        return "without pretrained weights a probe tells nothing"
    if count < sampling.MIN_IMAGES:
        return f"{count} training images cannot tell the networks apart (needed: {sampling.MIN_IMAGES})"
    return ""


def _reason(best: int, losses: list[np.ndarray], count: int, table: list[dict[str, Any]]) -> str:
    found = f"a probe on {count} training images, cross-validated"
    lowest = int(np.argmin([each.mean() for each in losses]))
    if best == lowest:
        return f"{found}: the lowest loss"
    gap, error = map(console.format_metric, _gap(losses[best], losses[lowest]))
    higher = f"its loss is {gap} above the lowest, that of {table[lowest]['choice']}, standard error {error}"
    why = "cheaper, and shown to lose little" if best < lowest else "larger, and not measurably worse"
    return f"{found}: {higher}; it is {why}"


def _without_folders(choices: list[str]) -> list[str]:
    """The choices with the bare names of their files, where these still tell them apart."""
    short = [re.sub(r"""[^'"=]*/(?=[^/'"]+(?:['"]|$))""", "", choice) for choice in choices]
    return short if len(set(short)) == len(short) else choices


def say(name: str, choice: BackboneChoice) -> None:
    """Prints what was chosen, and the table of what was measured."""
    console.say(f"backbone: {name} ({choice.reason})")
    titles = {
        "choice": ("backbone", str),
        "loss": ("held-out loss", console.format_metric),
        "accuracy": ("accuracy", percent),
        "parameters": ("parameters", "{:,}".format),
        "macs": ("multiplications", "{:,}".format),
        "images_per_second": ("images/s", "{:,.0f}".format),
        "seconds": ("seconds", "{:.1f}".format),
    }
    used = {key: titles[key] for key in titles if choice.table and key in choice.table[0]}
    short = _without_folders([row["choice"] for row in choice.table])
    table = [row | {"choice": name} for row, name in zip(choice.table, short)]
    rows = [[show(row[key]) for key, (_, show) in used.items()] for row in table]
    head = [title for title, _ in used.values()]
    # Line by line, because `say` escapes line breaks.
    for line in columns(head, rows, right=head[1:]).splitlines() if rows else []:
        console.say(f"  {line}")
