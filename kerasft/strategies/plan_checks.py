"""What is wrong with the phases of a run, before an image is read."""

import itertools

import numpy as np

from kerasft import augment
from kerasft.networks import blending
from kerasft.networks.network import Network
from kerasft.networks.surgery.resolution import resolution
from kerasft.optimization import averages, losses, optimizers
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import auto, freezing, planning
from kerasft.strategies.phase import Phase

# So many that each schedule has its warm-up.
CHECKED_STEPS = 100


def check(config: Config, network: Network, examples: int = 1) -> Phase | None:
    """Builds once whatever the phases name, so that a mistake is reported before an image is read.

    Args:
        examples: of an epoch, at most.

    Returns:
        The phase of most epochs among those that are sure to train the backbone; None where none is. A head trains on cached features.

    Raises:
        UserError: as `planning.plan`, for an augmentation, optimizer, schedule or loss, and for a layer that cannot be frozen.
    """
    planned, _ = planning.plan(config, network, examples)
    for phase in planned:
        optimizers.build(
            phase.optimizer, phase.schedule, phase.lr, steps=CHECKED_STEPS, average=config.specs("average")
        )
        recipe = () if [str(spec) for spec in phase.augment] == ["auto"] else phase.augment
        _check_accumulation(config, phase, examples)
        layer = augment.build(recipe, network.task, network.model.output_shape[-1])
        _check_sizes(layer, phase, network)
        losses.check(phase.loss, network.task, network.model.output_shape[-1], mixed=bool(layer.mixes))
        if phase.image_size is not None:
            if phase.image_size > network.size:
                rule = f"image_size must be at most the network's {network.size} (--image_size)"
                raise UserError(f"--phases: {rule}. Received: '{phase}'")
            resolution(network, phase.image_size)
    only_head = not planning.has_auto(config) and not any(phase.trains_backbone for phase in planned)
    if only_head and blending.blends_of(network.model):
        rule = "activation(blend=) blends in while the backbone trains, and no phase trains it; leave blend= or add all"
        raise UserError(f"--surgery: {rule}. Received: {config.surgery!r}")
    whole = any(phase.trains_all_layers for phase in planned)
    if averages.runs_of(averages.build(config.specs("average"))) and not whole:
        rule = "soup(runs=) averages whole networks, and no phase trains all layers; leave runs= or add all"
        raise UserError(f"--average: {rule}. Received: {config.average!r}")
    _check_quantile(config, network, planned)
    _check_frozen(network, planned)
    deep = [phase for phase in planned if phase.epochs and phase.trains_backbone and not phase.conditional]
    return max(deep, key=lambda phase: phase.epochs, default=None)


def _check_accumulation(config: Config, phase: Phase, examples: int) -> None:
    """Raises UserError where a phase cannot have enough steps for one update, whatever the audit leaves out."""
    # `auto` gives fewer examples more epochs. `training/resolve.py` knows their number.
    if phase.epochs and not (planning.has_auto(config) and phase.trains_backbone):
        batch = min(config.batch_size or auto.DEFAULT_BATCH_SIZE, examples)
        optimizers.check_accumulation(phase.optimizer, phase.epochs * (examples // batch))


def _check_sizes(layer: augment.Augment, phase: Phase, network: Network) -> None:
    """Raises UserError where a layer of Keras gives images that the network does not take."""
    size = phase.image_size or network.size
    if found := layer.find_resizing(size):
        resizing, shape = found
        wanted, given = (" x ".join(map(str, sides)) for sides in ((size, size, 3), shape[1:]))
        recipe = " | ".join(map(str, phase.augment))
        rule = f"{type(resizing).__name__} must leave images as large as they are, {wanted}; it makes them {given}"
        raise UserError(f"--augment: {rule}. Received: {recipe!r}")


def _check_quantile(config: Config, network: Network, planned: list[Phase]) -> None:
    """Refuses phases that would leave something else than the quantile of `--loss`.

    Raises:
        UserError: a phase whose loss predicts something else, or no phase with epochs.
    """
    wanted = losses.quantile(config.spec("loss"), network.task)
    for phase in planned:
        if losses.quantile(phase.loss, network.task) != wanted:
            rule = f"a phase's own loss cannot predict another quantile than --loss={config.loss}, which judges it"
            raise UserError(f"--phases: {rule}. Received: '{phase}'")
    if wanted is not None and not any(phase.epochs for phase in planned):
        rule = "a phase with epochs is needed to predict a quantile, for a solved head predicts the mean"
        raise UserError(f"--loss: {rule}. Received: {config.loss!r}")


def _check_frozen(network: Network, planned: list[Phase]) -> None:
    """Refuses to freeze a layer that changes its own weights whenever it is called.

    `freezing.apply` calls what is frozen in inference mode. A `call` without `training` has no such mode. Layers of Keras and of
    KerasHub have it.

    Raises:
        UserError: a phase freezes a layer that has changed in a call.
    """
    known = ("keras", "keras_hub", "kerasft")
    theirs = [layer for layer in network.model.layers if layer.name in network.backbone and layer.weights]
    kinds = {
        layer.name: {type(one).__module__.partition(".")[0] for one in layer._flatten_layers()} for layer in theirs
    }
    theirs = [layer for layer in theirs if not kinds[layer.name].issubset(known)]
    # A call takes time.
    if not theirs:
        return
    before = [layer.get_weights() for layer in theirs]
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *network.model.inputs[0].shape[1:])).astype("float32")
    network.model(pixels, training=False)
    changed = []
    for layer, weights in zip(theirs, before):
        if any(one.tobytes() != other.tobytes() for one, other in zip(weights, layer.get_weights())):
            changed.append(layer)
            layer.set_weights(weights)
    for layer, phase in itertools.product(changed, planned):
        if layer.name not in freezing.unfrozen(network, phase):
            rule = f"the layer {layer.name} ({type(layer).__name__}) changes its own weights although it is frozen; "
            rule += (
                "give its call a `training` argument and change nothing where that is False, or train it in every phase"
            )
            raise UserError(f"--phases: {rule}. Received: '{phase}'")
