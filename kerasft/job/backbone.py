"""The network of a run where `--backbone` leaves a choice: the candidates are built, and chosen on training images.

Only an audit tells which images are for training, so it comes before the choice. The splits that it makes are handed on.
"""

import gc
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from kerasft.console import console
from kerasft.console.wording import duration
from kerasft.data.listing import Listing
from kerasft.data.splits import Splits
from kerasft.job import build_network
from kerasft.job.audited_splits import as_audited, audit_and_split
from kerasft.networks import backbones, bundled, candidates, published_accuracy
from kerasft.settings import backbone_list
from kerasft.settings.backbone_list import Candidate
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache, resolved_settings
from kerasft.strategies import auto, planning
from kerasft.training import backbone_choice
from kerasft.training.backbone_choice import BackboneChoice, Contender

# Without a budget, `auto` leaves out networks whose fine-tuning would take longer.
MAX_AUTO_MINUTES = 20.0
# With a budget, fine-tuning may take this share of it.
MAX_BUDGET_SHARE = 0.5
# Under `--deterministic` no speed is measured, and `auto` leaves out networks of more multiplications.
MAX_UNTIMED_MULTIPLICATIONS = 1e9


class Audited:
    """The splits that were made before the choice. Whoever needs them takes them out, so that their images can be freed.

    Attributes:
        size: side of their images in pixels.
        seconds: that it took.
    """

    def __init__(self, splits: Splits, size: int, seconds: float):
        self._splits, self.size, self.seconds = [splits], size, seconds

    def take(self) -> Splits:
        """The splits, once."""
        return self._splits.pop()


class Chosen(NamedTuple):
    """The Config with one network and its weights; why it is this one, and the splits, where it was chosen here."""

    config: Config
    choice: BackboneChoice | None = None
    audited: Audited | None = None


def choose_backbone(config: Config, listing: Listing, folder: Path) -> Chosen:
    """Resolves `--backbone` to one network. A resumed run takes it from its folder.

    Raises:
        UserError: a network of the list cannot be built, or does not fit the phases; or as `audit_and_split`.
    """
    resolved = resolved_settings.read(folder)
    if resolved and resolved.backbone:
        return Chosen(replace(config, backbone=resolved.backbone, weights=resolved.weights))
    if not leaves_choice(config):
        return Chosen(candidates.one(config))
    sizes = build_network.sample_sizes(listing)
    if candidates.is_automatic(config):
        found, contenders, left_out = _short_list(config, listing, sizes)
        if left_out:
            console.say(f"backbone: auto leaves out {'; '.join(left_out)}")
    else:
        found = list(backbone_list.parse(config.backbone))
        contenders = [_build(config, listing, sizes, candidate) for candidate in found]
    audited = None
    if len(contenders) > 1:
        started, widths = time.monotonic(), [one.network.size for one in contenders]
        # The size that most of them take; of equally many the larger one.
        size = max(widths, key=lambda size: (widths.count(size), size))
        splits = audit_and_split(config, as_audited(config, listing), size, folder)
        audited = Audited(splits, size, time.monotonic() - started)
        cache = disk_cache.from_config(config, folder)
        choice = backbone_choice.choose(config, contenders, splits, size, cache)
    elif contenders:
        choice = BackboneChoice(0, "the only one of the short list that can be had", [])
    else:
        # Its error names the ways out.
        return Chosen(candidates.one(config))
    chosen = found[choice.place]
    backbone_choice.say(chosen.choice, choice)
    del contenders
    _forget_networks(config)
    return Chosen(candidates.with_candidate(config, chosen), choice, audited)


def leaves_choice(config: Config) -> bool:
    """Whether `--backbone` may name more than one network."""
    return candidates.is_automatic(config) or len(backbone_list.parse(config.backbone)) > 1


def likely(config: Config) -> Config:
    """The Config with the first network of the list, for what is shown without reading images or downloading weights."""
    found = backbone_list.parse(config.backbone)
    if config.backbone == backbone_list.AUTO:
        found, _ = candidates.short_list(_device(), download=False) if candidates.is_automatic(config) else ([], [])
    return candidates.with_candidate(config, found[0]) if found else candidates.one(config)


def _device() -> str:
    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"


def _short_list(
    config: Config, listing: Listing, sizes: list[tuple[int, int]]
) -> tuple[list[Candidate], list[Contender], list[str]]:
    """The short list of `auto` in order of preference, its networks, and in words what was left out and why.

    The networks are built from the smallest on. One whose fine-tuning would take too long on this machine is left out.
    """
    found, missing = candidates.short_list(_device())
    left_out = [f"{', '.join(missing)} (no weights here, and none can be downloaded)"] if missing else []
    minutes = MAX_AUTO_MINUTES if config.budget_minutes is None else MAX_BUDGET_SHARE * config.budget_minutes
    by_size, built = [backbone.name for backbone in published_accuracy.BACKBONES], {}
    for candidate in sorted(found, key=lambda one: by_size.index(one.backbone)):
        try:
            contender = _build(config, listing, sizes, candidate)
        except backbones.DownloadError:
            left_out.append(f"{candidate.choice} (its weights could not be downloaded)")
            continue
        if built and (reason := _too_slow(config, contender, minutes)):
            left_out.append(f"{candidate.choice} ({reason})")
        else:
            built[candidate] = contender
    kept = [candidate for candidate in found if candidate in built]
    return kept, [built[candidate] for candidate in kept], left_out


def _too_slow(config: Config, contender: Contender, minutes: float) -> str:
    """Why a network is too slow for `auto`, in half a sentence; empty where it is not, or is not fine-tuned."""
    if not planning.trains_backbone(config):
        return ""
    if contender.images_per_second is None:
        large = contender.multiplications > MAX_UNTIMED_MULTIPLICATIONS
        return (
            f"more than {MAX_UNTIMED_MULTIPLICATIONS:,.0f} multiplications, and no speed is measured" if large else ""
        )
    passes = auto.FINE_TUNING_STEPS * auto.DEFAULT_BATCH_SIZE * auto.FORWARD_PASSES_PER_STEP
    passes *= auto.TAUGHT_LENGTH if config.teacher.strip() else 1
    expected = passes / contender.images_per_second / 60
    return f"fine-tuning would take about {duration(60 * expected)} here" if expected > minutes else ""


def _build(config: Config, listing: Listing, sizes: list[tuple[int, int]], candidate: Candidate) -> Contender:
    """Builds a network of the list as the run would, so that a mistake is named before an image is read."""
    config = candidates.with_candidate(config, candidate)
    try:
        config = replace(config, weights=bundled.resolve_weights(config))
        size = config.image_size or build_network.image_size(config, sizes)
        network, _ = build_network.build(replace(config, image_size=size), listing)
        return backbone_choice.contender(config, candidate.choice, network, len(listing.ids))
    except backbones.DownloadError:
        raise
    except UserError as error:
        first, *others = error.args
        raise UserError(f"--backbone, {candidate.choice}: {first.removeprefix('--backbone: ')}", *others) from error


def _forget_networks(config: Config) -> None:
    """Frees the memory of the networks. What is built next has the names and the weights that it has in a new process."""
    keras.backend.clear_session()
    gc.collect()
    keras.utils.set_random_seed(config.seed)
