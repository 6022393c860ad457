"""The phases of a run, complete: those that `--phases` names, or those that the rule of `auto` chooses."""

import math
from dataclasses import replace

from kerasft import augment
from kerasft.networks import network as networks
from kerasft.networks.network import Network
from kerasft.optimization import losses, optimizers
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, counted
from kerasft.settings.spec import Spec
from kerasft.strategies import phases
from kerasft.strategies.phases import Phase

FORWARD_PASSES_PER_STEP = 4.0  # a training step of all layers takes about as long as four forward passes
DEFAULT_BATCH_SIZE = 32  # pictures of a step, where neither a flag nor a measurement says otherwise
FINE_TUNING_STEPS = 300  # of fine-tuning: fewer leave the features, and the statistics of BatchNorm, half way
VISITS_PER_EXAMPLE = 100  # times that an example of a class is to be seen in fine-tuning, on average
MAX_EPOCHS = 30  # over few examples
TRAINING_SIZE_RATIO, SIZE_MULTIPLE = (
    6 / 7,
    32,
)  # of the pictures' side that fine-tuning sees: the next multiple of what networks halve to 1
CONDITIONAL_LENGTH = 3  # lengths of the first phase that a further one takes
MIN_LOSS_REDUCTION = 0.4  # of its validation loss, which a phase has to lose for a further one to follow
MAX_AUTO_SECONDS = 3600.0  # seconds that `auto` spends on fine-tuning where the measured speed lets it choose


def plan(config: Config, network: Network, examples: int, speed: float | None = None) -> tuple[list[Phase], str]:
    """The phases of a run, and why they are these in one line.

    Under `--head_init=probe` a head phase that solves the head stands first, named or not.

    Args:
        examples: of the training split.
        speed: pictures a second of a forward pass, where it was measured.

    Raises:
        UserError: an unknown phase or argument, or an `unfreeze` that the backbone does not have.
    """
    own, reason = specs.choices(phases), "as --phases says"
    chosen = [specs.build(spec, "--phases", own, kind=Phase, outside=Phase) for spec in named(config)]
    if ends_in_auto(config):
        following, reason = _auto(config, network, examples, speed, "what is named" if chosen else "solve the head")
        chosen += following if not chosen else [phase for phase in following if phase.epochs]
    if not chosen:
        raise UserError(f"--phases: at least one of all, head, top, or auto is needed. Received: {config.phases!r}")
    solved = network.head_init == "probe"
    if solved and chosen[0].kind != "head":
        chosen = [phases.head(epochs=0), *chosen]
    settled = []
    for phase in chosen:
        epochs = phase.epochs if phase.epochs is not None else 0 if solved else 5
        settled.append(
            replace(
                phase,
                epochs=epochs,
                optimizer=phase.optimizer or specs.parse_one(config.optimizer, "--optimizer"),
                schedule=phase.schedule or specs.parse_one(config.schedule, "--schedule"),
                loss=phase.loss or specs.parse_one(config.loss, "--loss"),
                augment=_recipe(phase, config),
            )
        )
        phases.first_layer(network, phase)
    return settled, reason


def named(config: Config) -> tuple[Spec, ...]:
    """The phases that `--phases` names, without an `auto` at the end."""
    found = specs.parse(config.phases, "--phases")
    found = found[:-1] if ends_in_auto(config) else found
    if any(spec.name == "auto" for spec in found):
        raise UserError(f"--phases: auto must stand last. Received: {config.phases!r}")
    return found


def ends_in_auto(config: Config) -> bool:
    """Whether the rule of `auto` chooses the phases, or those after the named ones."""
    found = specs.parse(config.phases, "--phases")
    return bool(found) and str(found[-1]) == "auto"


def gained_enough(record: dict) -> bool:
    """Whether a further phase is to follow: the one of this record was kept whole, and still gained much.

    Data far from what the weights were learned on want many more steps than near ones, and no figure of the frozen
    features tells which these are; how far the first steps led does.
    """
    return record["share"] == 1 and record["val_after"] <= (1 - MIN_LOSS_REDUCTION) * record["val_before"]


def check(config: Config, network: Network) -> Phase | None:
    """Builds once whatever the phases name, so that a mistake is told before a picture is read.

    Returns:
        The phase of most epochs, None where none has any.

    Raises:
        UserError: as `plan`, and for an augmentation, optimizer, schedule or loss.
    """
    planned, _ = plan(config, network, examples=1)
    average = specs.parse(config.average, "--average")
    for phase in planned:
        optimizers.build(phase.optimizer, phase.schedule, phase.lr, steps=1, average=average)
        recipe = () if [str(spec) for spec in phase.augment] == ["auto"] else phase.augment
        layer = augment.build(recipe, network.task, network.model.output_shape[-1])
        losses.build(phase.loss, network.task, mixed=bool(layer.mixes))
        if phase.image_size is not None:
            if phase.image_size > network.size:
                rule = f"image_size must be at most the network's {network.size} (--image_size)"
                raise UserError(f"--phases: {rule}. Received: '{phase}'")
            networks.resized(network, phase.image_size)
    longest = max(planned, key=lambda phase: phase.epochs)
    return longest if longest.epochs else None


def _recipe(phase: Phase, config: Config) -> tuple[Spec, ...]:
    """A phase's own augmentation (`none` for none of it), or the flag's."""
    if phase.augment is None:
        return specs.parse(config.augment, "--augment")
    recipe = phase.augment if isinstance(phase.augment, tuple) else (phase.augment,)
    return () if [str(spec) for spec in recipe] == ["none"] else recipe


def _auto(config: Config, network: Network, examples: int, speed: float | None, first: str) -> tuple[list[Phase], str]:
    """The stated rule of `--phases=auto`: enough steps to move, few enough passes to be done soon.

    Args:
        first: what goes before, in words.
    """
    batch = config.batch_size or DEFAULT_BATCH_SIZE
    steps = max(1, examples // min(batch, examples))
    if not network.pretrained:
        epochs = min(60, max(5, math.ceil(3000 / steps)))
        return [phases.all(epochs, 1e-3, "train")], f"no pretrained weights: all layers from the start, {epochs} epochs"
    wanted = max(FINE_TUNING_STEPS, VISITS_PER_EXAMPLE * network.model.output_shape[-1] // batch)
    epochs = min(MAX_EPOCHS, max(3, math.ceil(wanted / steps)))
    # Larger networks bear smaller steps: 1e-3 at 200,000 parameters, 1e-4 at 20 million.
    lr = float(f"{1e-3 * min(1.0, math.sqrt(2e5 / max(network.model.count_params(), 1))):.1g}")
    why = f"{counted(examples, 'example')} in {counted(steps, 'step')}: {first}, then fine-tune all layers for "
    why += counted(epochs, "epoch")
    size, conditional = _training_size(config, network), True
    if size:
        why += f" on pictures of {size} pixels"
    if speed:
        epoch = examples * FORWARD_PASSES_PER_STEP / speed * (1.0 if size is None else (size / network.size) ** 2)
        if epochs * epoch > MAX_AUTO_SECONDS:
            epochs = max(1, int(MAX_AUTO_SECONDS / epoch))
            why = (
                f"an epoch of {examples} examples takes about {epoch:.0f} s here: {first}, then all layers for {epochs}"
            )
        why += f" (about {epochs * epoch:.0f} s)"
        conditional = (1 + CONDITIONAL_LENGTH) * epochs * epoch <= MAX_AUTO_SECONDS
    chosen = [phases.head(0), phases.all(epochs, lr, "train", image_size=size)]
    if conditional:
        chosen.append(replace(chosen[-1], epochs=CONDITIONAL_LENGTH * epochs, conditional=True))
        why += f", and {CONDITIONAL_LENGTH * epochs} more if that gains much"
    return chosen, why


def _training_size(config: Config, network: Network) -> int | None:
    """Side of the pictures that `auto` fine-tunes on; None for the network's own.

    Crops enlarge what is in a picture, by a quarter on average those of `--augment=auto`. On somewhat smaller pictures
    things are met at about the size that they have when validated and served (Touvron et al. 2019), for less work. Sizes are
    multiples of `SIZE_MULTIPLE`, so that every stage of a network pads as it does at its own size.
    """
    size = SIZE_MULTIPLE * math.ceil(TRAINING_SIZE_RATIO * network.size / SIZE_MULTIPLE)
    if config.augment.strip() != "auto" or network.size % SIZE_MULTIPLE or size >= network.size:
        return None
    try:
        networks.resized(network, size)
    except UserError:
        return None
    return size
