"""Smaller images as the way of a step: which size, what the step's run is given, and what must stay as it was."""

from dataclasses import replace
from pathlib import Path

import keras

from kerasft.console import console
from kerasft.data import sources
from kerasft.job.audited_splits import as_audited, audit_and_split
from kerasft.networks import flattening, hub_layers, image_rows
from kerasft.networks.network import Network
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec
from kerasft.storage import run_folder
from kerasft.strategies.auto import SIZE_MULTIPLE

# How `slim.json` names the way, such as `image_size(160)`, and what separates it from a surgery that follows.
NAME, SEPARATOR = "image_size", " | "

# Sizes differ by a multiple of this, in pixels. With a multiple of `SIZE_MULTIPLE` every stage pads as before, but that is too coarse: a
# step would often remove far more than it is asked for.
SIZE_STEP = 16

# A network that halves its input five times is left at least two places each way.
MIN_SIZE = 2 * SIZE_MULTIPLE

# The folder of an audit that is only compared.
SCRATCH = ".splits"


def smaller_sizes(size: int) -> range:
    """The sizes of smaller images, in pixels, the largest first."""
    return range(size - SIZE_STEP, MIN_SIZE - 1, -SIZE_STEP)


def resized(network: Network, size: int) -> Network | None:
    """A copy of the network for images of another size; None where its layers fit those of its own size only, or are KerasHub's.

    `surgery.resolution` does not serve here: it takes the layers themselves, whose shapes are those of the network's own size.
    """
    # The run of the step reads the network by `saved_backbone.load`, which refuses these.
    if hub_layers.holds_any(network.model):
        return None
    inputs = keras.Input((size, size, 3))
    try:
        model = keras.Model(inputs, flattening.open_model(network.model, inputs).output)
    except (UserError, ValueError):
        return None
    return network._replace(model=model, size=size) if image_rows.one_an_image(model) else None


def is_resizing(way: str) -> bool:
    """Whether a way of `slim.json` is smaller images."""
    return way.startswith(f"{NAME}(")


def settings_of(way: str) -> dict[str, str | int]:
    """The settings that a way of `slim.json` gives to the run of its step: `surgery`, `image_size`, or both."""
    size, _, surgery = way.partition(SEPARATOR) if is_resizing(way) else ("", "", way)
    changes = {NAME: specs.parse_one(size, NAME).args[0]} if size else {}
    return changes | ({"surgery": surgery} if surgery else {})


def phases_at(config: Config, whole: int, size: int) -> str:
    """`--phases` for a network on smaller images than the run's: each `image_size` keeps its ratio to the network's size.

    Sizes are rounded up to one that differs from the network's by a multiple of `SIZE_MULTIPLE`, at most to the network's own.
    That is then left out.

    Args:
        config: whose phases are meant for the run's network.
        whole: side of the run's images in pixels.
        size: side of the network's images in pixels.
    """
    if size == whole:
        return config.phases

    def fitted(spec: Spec) -> Spec:
        own = spec.kwargs.get("image_size")
        # The run of the step refuses what is no size.
        if isinstance(own, bool) or not isinstance(own, int):
            return spec
        steps = size * (whole - own) // (whole * SIZE_MULTIPLE)
        kwargs = {**spec.kwargs, "image_size": size - steps * SIZE_MULTIPLE}
        return replace(spec, kwargs=kwargs if steps > 0 else {k: v for k, v in kwargs.items() if k != "image_size"})

    before = config.specs("phases")
    after = tuple(map(fitted, before))
    return config.phases if after == before else " | ".join(map(str, after))


def keeps_splits(config: Config, sizes: tuple[int, int], folder: Path) -> bool:
    """Whether images of two sizes are split alike.

    Copies and near duplicates are found in decoded images. So another size may find others, and would put images that
    the network was trained on into validation or test. The decoded images stay in the cache, for the runs of the step. Images
    without labels are in no split.

    Args:
        config: of the step.
        sizes: of the images in pixels.
        folder: where the audits are written, and removed.
    """
    return len({split_digest(config, size, folder) for size in sizes}) == 1


def split_digest(config: Config, size: int, folder: Path) -> str:
    """The digest of a step's splits, made of images of this many pixels a side; arguments as `keeps_splits`."""
    config = replace(config, unlabelled="")
    listing = as_audited(config, sources.load(config))
    with console.silence(), run_folder.scratch(folder, SCRATCH) as place:
        return audit_and_split(config, listing, size, place).digest
