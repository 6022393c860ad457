"""The rule of `--phases=auto`: solve or train the head, then fine-tune for enough steps, as many layers and at a rate that suit the images."""

import math
from dataclasses import replace

from kerasft.networks import depths
from kerasft.networks.network import Network
from kerasft.networks.surgery.resolution import resolution
from kerasft.optimization import averages, lr_scaling
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, counted
from kerasft.strategies.full import full
from kerasft.strategies.head import head
from kerasft.strategies.phase import Phase
from kerasft.strategies.top import top

# A training step of all layers takes about as long as this many forward passes.
FORWARD_PASSES_PER_STEP = 4.0

# Images of a step, where neither a flag nor a measurement says otherwise.
DEFAULT_BATCH_SIZE = 32

# Steps of fine-tuning. Fewer leave the features and the statistics of BatchNormalization half way.
FINE_TUNING_STEPS = 300

# Times that fine-tuning visits an example of a class on average, where there are many classes.
VISITS_PER_EXAMPLE = 100

# Epochs of fine-tuning at most; where an epoch has few steps, as many as make MIN_STEPS.
MAX_EPOCHS = 30
MIN_STEPS = 100

# With a teacher, fine-tuning has so many times as many epochs. A student has something to learn from each augmentation that it has
# not seen (Beyer et al. 2022).
TAUGHT_LENGTH = 3

# Fine-tuning sees images of this fraction of the side, rounded up to a multiple of SIZE_MULTIPLE pixels.
TRAINING_SIZE_RATIO = 6 / 7
SIZE_MULTIPLE = 32

# Images whose domain shift is above this are far from those of the pretraining (docs/defaults.md has the shifts of some sets).
# Fine-tuning learns them at FAR_RATE times the rate.
FAR_SHIFT = 0.09
FAR_RATE = 3.0

# Of images that are near, the last blocks of the backbone learn, this fraction of all. What the others make of some
# augmentations is computed once. With fewer epochs than these, that would save little; with more than MAX_EPOCHS there are
# so few images that they need all augmentations they can have.
NEAR_UNFREEZE = 0.5
MIN_NEAR_EPOCHS = 6

# An epoch of these blocks takes about this fraction of the time of one of all layers, the augmentations included.
NEAR_TIME = 1 / 3

# The conditional phase takes this many times as many epochs as the one before it.
CONDITIONAL_LENGTH = 3

# Fraction of its validation loss that a phase must take off for the conditional one to follow.
MIN_LOSS_REDUCTION = 0.4

# Seconds that `auto` spends on fine-tuning, where the measured speed lets it choose.
MAX_AUTO_SECONDS = 3600.0


def phases(
    config: Config, network: Network, examples: int, speed: float | None, shift: float | None, first: str
) -> tuple[list[Phase], str]:
    """The stated rule of `--phases=auto`: enough steps to move, few enough passes to be done soon.

    Args:
        speed: images a second of a forward pass, where it was measured.
        shift: of the images (`domain_shift.measure`), where it was measured. It decides how much trains, and at what rate.
        first: what goes before, in words.
    """
    batch = config.batch_size or DEFAULT_BATCH_SIZE
    steps = max(1, examples // min(batch, examples))
    if not network.pretrained:
        epochs = min(60, max(5, math.ceil(3000 / steps)))
        return [
            full(epochs, _scaled(1e-3, config, examples), batch_norm="train")
        ], f"no pretrained weights: all layers from the start, {epochs} epochs"
    epochs = _epochs(network, batch, steps)
    # The conditional phase is as long with a teacher as without.
    further = CONDITIONAL_LENGTH * epochs
    epochs *= TAUGHT_LENGTH if config.teacher.strip() else 1
    far = shift is not None and shift > FAR_SHIFT
    lr = _scaled(_rate(network, far), config, examples)
    # How far the images are from those of the pretraining is known, or else the first phase tells it.
    conditional = shift is None
    near = not (conditional or far) and MIN_NEAR_EPOCHS <= epochs <= MAX_EPOCHS and _may_freeze_half(config)
    size = None if near else _training_size(config, network)
    trained = "the last half of the blocks" if near else "all layers"
    why = f"{counted(examples, 'example')} in {counted(steps, 'step')}: {first}, then fine-tune {trained} for "
    why += counted(epochs, "epoch")
    if size:
        why += f" on images of {size} pixels"
    # Under a budget, each phase gets its length when it begins, by steps that are measured (`strategies/budget.py`).
    if speed and config.budget_minutes is None:
        epoch = examples * FORWARD_PASSES_PER_STEP / speed * (1.0 if size is None else (size / network.size) ** 2)
        epoch *= NEAR_TIME if near else 1.0
        if epochs * epoch > MAX_AUTO_SECONDS:
            epochs = max(1, int(MAX_AUTO_SECONDS / epoch))
            further = CONDITIONAL_LENGTH * epochs
            why = (
                f"an epoch of {examples} examples takes about {epoch:.0f} s here: {first}, then {trained} for {epochs}"
            )
        why += f" (about {epochs * epoch:.0f} s)"
        conditional = conditional and (epochs + further) * epoch <= MAX_AUTO_SECONDS
    # At a high rate the network is behind the solved head for long, and ahead of it once the rate has come down.
    settings = {"epochs": epochs, "lr": lr, "batch_norm": "train", "head_lr": head_rate(network)}
    settings |= {"stop_if_losing": not far, "image_size": size}
    fine_tuning = top(NEAR_UNFREEZE, **settings) if near else full(**settings)
    # `plan` gives it epochs, unless it is solved.
    chosen = [head(), fine_tuning]
    if near:
        why += f", for the images are near those of the pretraining (shift {shift:.2f})"
    if far:
        why += f", at {FAR_RATE:g} times the rate, for the images are far from those of the pretraining (shift {shift:.2f})"
    if conditional:
        chosen.append(replace(chosen[-1], epochs=further, conditional=True))
        why += f", and {further} more if that gains much"
    return chosen, why


def _epochs(network: Network, batch: int, steps: int) -> int:
    """Epochs of fine-tuning, each of so many steps."""
    wanted = max(FINE_TUNING_STEPS, VISITS_PER_EXAMPLE * network.model.output_shape[-1] // batch)
    return min(max(MAX_EPOCHS, math.ceil(MIN_STEPS / steps)), max(3, math.ceil(wanted / steps)))


def _rate(network: Network, far: bool) -> float:
    """The learning rate for steps of `DEFAULT_BATCH_SIZE` images."""
    # Larger networks bear smaller steps: 1e-3 at 200,000 parameters, 1e-4 at 20 million.
    lr = float(f"{1e-3 * min(1.0, math.sqrt(2e5 / max(network.model.count_params(), 1))):.1g}")
    return float(f"{lr * (FAR_RATE if far else 1.0):.3g}")


def _may_freeze_half(config: Config) -> bool:
    """Whether the first half of the network may stay frozen, and be cached.

    Only the augmentation that `auto` chooses is known to be cacheable. An activation that `--surgery` blends in is finished by
    training. A student has much to learn from its teacher. A soup of several runs is one of all layers.
    """
    soup = averages.runs_of(averages.build(config.specs("average")))
    return config.augment.strip() == "auto" and not (config.specs("surgery") or config.teacher.strip() or soup)


def _scaled(lr: float, config: Config, examples: int) -> float:
    """A rate for steps of `DEFAULT_BATCH_SIZE` images, or of all where there are fewer, scaled for `--batch_size`."""
    batch = config.batch_size or DEFAULT_BATCH_SIZE
    if config.lr_scaling == "none":
        return lr
    factor = lr_scaling.factor(config.spec("optimizer"), min(batch, examples), min(DEFAULT_BATCH_SIZE, examples))
    return float(f"{lr * factor:.3g}")


def head_rate(network: Network) -> float:
    """The head's learning rate as a multiple of the others': the share that the last depth has of its features.

    A step of Adam moves each weight by about the rate. So it moves a logit in proportion to the number of features, which are
    standardised (Yang et al. 2021: the rate of a layer falls with its fan-in). A solved head on many depths would be lost
    in the first steps.
    """
    widths = depths.widths(network)
    return float(f"{widths[-1] / sum(widths):.2g}")


def _training_size(config: Config, network: Network) -> int | None:
    """Side of the images that `auto` fine-tunes on; None for the network's own.

    Crops enlarge what is in a image, by a quarter on average those of `--augment=auto`. On somewhat smaller images
    things are met at about the size that they have when validated and served (Touvron et al. 2019), for less work. Sizes are
    multiples of `SIZE_MULTIPLE`, so that every stage of a network pads as it does at its own size.
    """
    size = SIZE_MULTIPLE * math.ceil(TRAINING_SIZE_RATIO * network.size / SIZE_MULTIPLE)
    if config.augment.strip() != "auto" or network.size % SIZE_MULTIPLE or size >= network.size:
        return None
    try:
        resolution(network, size)
    except UserError:
        return None
    return size


def gained_enough(alpha: float, loss_before: float, loss_after: float) -> bool:
    """Whether the conditional phase follows: the phase before it was kept whole, and still gained much.

    Data far from what the weights were learned on want many more steps than near ones. Where no domain shift is known, how far
    the first steps led tells which these are.

    Args:
        alpha: fraction of its weights that was kept.
        loss_before, loss_after: on validation, before it and of what was kept.
    """
    return alpha == 1 and loss_after <= (1 - MIN_LOSS_REDUCTION) * loss_before
