"""The rule of `--phases=auto`: solve or train the head, then fine-tune.

| domain shift of the images | layers | rate | image size | stopped if losing | further phase |
| --- | --- | --- | --- | --- | --- |
| unknown | all | plain | smaller | yes | if the first one gained much |
| far from the pretraining | all | `FAR_RATE` times the plain one | smaller | no | no |
| near | the last half of the blocks where the first half is cached (`_may_freeze_half`); else all | plain | full; else smaller | yes | no |
"""

import math
from dataclasses import replace

from kerasft.augment import DEFAULT_AUGMENT
from kerasft.networks import depths
from kerasft.networks.network import Network
from kerasft.networks.surgery.resolution import resolution
from kerasft.optimization import averages, lr_scaling
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, counted
from kerasft.strategies import caching
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

# Images of each class that fine-tuning sees on average, repeats counted. It decides the steps where there are many classes.
IMAGES_SEEN_PER_CLASS = 100

# Epochs of fine-tuning at most. Tiny sets have more, until there are MIN_STEPS steps.
MAX_EPOCHS = 30
MIN_STEPS = 100

# With a teacher, fine-tuning takes this many times as many epochs. A student has something to learn from each augmentation that it has
# not seen (Beyer et al. 2022).
TAUGHT_LENGTH = 3

# Fine-tuning sees images of this fraction of the side, rounded up to a multiple of SIZE_MULTIPLE pixels.
TRAINING_SIZE_RATIO = 6 / 7
SIZE_MULTIPLE = 32

# Images whose domain shift is above this are far from those of the pretraining (docs/defaults.md has the shifts of some sets).
# Fine-tuning learns them at FAR_RATE times the rate.
FAR_SHIFT = 0.09
FAR_RATE = 3.0

# Near images train the last half of the blocks. The outputs of the frozen half are cached for a fixed number of
# augmentations. Where that would not save enough (`strategies/caching.py`), all layers train.
# With fewer than MIN_NEAR_EPOCHS the cache saves little. With more than MAX_EPOCHS the set is so small that it needs fresh
# augmentations in each epoch.
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
    config: Config,
    network: Network,
    examples: int,
    speed: float | None,
    shift: float | None,
    is_measured: bool,
    first: str,
) -> tuple[list[Phase], str]:
    """The stated rule of `--phases=auto`: enough steps to move, few enough passes to be done soon.

    Args:
        speed: images a second of a forward pass, where it was measured.
        shift: of the images (`domain_shift.measure`), where it is known. It decides how much trains, and at what rate.
        is_measured: whether the shift was measured, and not assumed.
        first: what goes before, in words.
    """
    batch = config.batch_size or DEFAULT_BATCH_SIZE
    steps = max(1, examples // min(batch, examples))
    if not network.pretrained:
        epochs = min(60, max(5, math.ceil(3000 / steps)))
        return [
            full(epochs, _scaled(1e-3, config, examples), batch_norm="train")
        ], f"no pretrained weights: all layers from the start, {epochs} epochs"
    # Under a budget, each phase gets its length when it begins, by steps that are measured (`strategies/budget.py`).
    speed = speed if config.budget_minutes is None else None
    epochs = _epochs(network, batch, steps)
    # The further phase is as long with a teacher as without.
    further = CONDITIONAL_LENGTH * epochs
    epochs *= TAUGHT_LENGTH if config.teacher.strip() else 1
    far = shift is not None and shift > FAR_SHIFT
    near = shift is not None and not far
    freeze_half = near and _may_freeze_half(config, network, examples, epochs, speed)
    # Cached outputs are those of images of the network's own size.
    size = None if freeze_half else _training_size(config, network)
    epoch = _epoch_seconds(network, examples, speed, size, freeze_half)
    # Where the shift is unknown, the first phase tells whether a further one pays.
    conditional = shift is None and (epochs + further) * epoch <= MAX_AUTO_SECONDS
    trained = "the last half of the blocks" if freeze_half else "all layers"
    if (fitting := _fitting(epochs, epoch)) < epochs:
        why = f"an epoch of {examples} examples takes about {epoch:.0f} s here: {first}, then fine-tune {trained} for "
        why += counted(fitting, "epoch")
    else:
        why = f"{counted(examples, 'example')} in {counted(steps, 'step')}: {first}, then fine-tune {trained} for "
        why += counted(epochs, "epoch")
        why += f" on images of {size} pixels" if size else ""
    why += f" (about {fitting * epoch:.0f} s)" if epoch else ""
    # Far images are not stopped for losing: at a high rate the network is behind the solved head until the rate has decayed.
    settings = {"epochs": fitting, "lr": _scaled(_rate(network, far), config, examples), "batch_norm": "train"}
    settings |= {"head_lr": head_rate(network), "stop_if_losing": not far, "image_size": size}
    fine_tuning = top(NEAR_UNFREEZE, **settings) if freeze_half else full(**settings)
    # `planning.plan` gives the head epochs, unless it is solved in closed form.
    chosen = [head(), fine_tuning]
    if freeze_half:
        why += ", for the images are near" if is_measured else ", if the images are near"
        why += " those of the pretraining"
        why += f" (shift {shift:.2f})" if is_measured else ", which the run measures"
    if far:
        why += f", at {FAR_RATE:g} times the rate, for the images are far from those of the pretraining (shift {shift:.2f})"
    if conditional:
        chosen.append(replace(fine_tuning, epochs=further, conditional=True))
        why += f", and {further} more if that gains much"
    return chosen, why


def _epochs(network: Network, batch: int, steps: int) -> int:
    """Epochs of fine-tuning, each of so many steps."""
    wanted = max(FINE_TUNING_STEPS, IMAGES_SEEN_PER_CLASS * network.model.output_shape[-1] // batch)
    return min(max(MAX_EPOCHS, math.ceil(MIN_STEPS / steps)), max(3, math.ceil(wanted / steps)))


def _rate(network: Network, far: bool) -> float:
    """The learning rate for steps of `DEFAULT_BATCH_SIZE` images."""
    # Larger networks need a lower rate: 1e-3 at 200,000 parameters, 1e-4 at 20 million.
    lr = float(f"{1e-3 * min(1.0, math.sqrt(2e5 / max(network.model.count_params(), 1))):.1g}")
    return float(f"{lr * (FAR_RATE if far else 1.0):.3g}")


def _epoch_seconds(network: Network, examples: int, speed: float | None, size: int | None, freeze_half: bool) -> float:
    """Seconds of an epoch, by the measured speed of a forward pass; 0 where no speed limits the epochs."""
    if not speed:
        return 0.0
    share = NEAR_TIME if freeze_half else ((size or network.size) / network.size) ** 2
    return examples * FORWARD_PASSES_PER_STEP / speed * share


def _fitting(epochs: int, epoch: float) -> int:
    """As many of some epochs, of so many seconds each, as fit into `MAX_AUTO_SECONDS`; one at least."""
    return epochs if epochs * epoch <= MAX_AUTO_SECONDS else max(1, int(MAX_AUTO_SECONDS / epoch))


def _may_freeze_half(config: Config, network: Network, examples: int, epochs: int, speed: float | None) -> bool:
    """Whether the first half of the network may stay frozen, and is cached.

    Only the augmentation that `auto` chooses is known to be cacheable. An activation that `--surgery` blends in is finished by
    training. A student has much to learn from its teacher. A soup of several runs is one of all layers. Images of another
    size than the network's need other statistics of BatchNormalization, in all layers.
    """
    own = config.augment.strip() == "auto" and config.image_size is None
    soup = averages.runs_of(averages.build(config.specs("average")))
    if not own or config.specs("surgery") or config.teacher.strip() or soup:
        return False
    fitting = _fitting(epochs, _epoch_seconds(network, examples, speed, None, freeze_half=True))
    if not MIN_NEAR_EPOCHS <= fitting <= MAX_EPOCHS:
        return False
    phase = replace(top(NEAR_UNFREEZE, epochs=fitting), augment=specs.parse(DEFAULT_AUGMENT, "--augment"))
    return caching.cached_views(network, phase, examples, 0) > 0


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

    Random crops enlarge objects, those of `--augment=auto` by a quarter on average. On somewhat smaller images objects have about
    the size that they have in validation and serving (Touvron et al. 2019), for less work. Sizes are
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
