"""The plan of a run: the phases that `--phases` names, and those that the rule of `auto` adds."""

from dataclasses import fields, replace

from kerasft.networks.network import Network
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, counted, one_of
from kerasft.settings.spec import Spec
from kerasft.strategies import STRATEGIES, auto, bottlenecks, freezing
from kerasft.strategies.head import head
from kerasft.strategies.phase import FOREIGN, Origin, Phase

# Epochs of a phase that names none: of a head that is not solved, or whose solution is behind what was trained since.
HEAD_EPOCHS = 5

# What `auto` may add: a head, and fine-tuning twice.
PHASES_OF_AUTO = 3


def plan(
    config: Config,
    network: Network,
    examples: int,
    speed: float | None = None,
    shift: float | None = None,
    is_measured: bool = True,
) -> tuple[list[Phase], str]:
    """The phases of a run, and why they are these in one line.

    Under `--head_init=probe` a head phase that solves the head stands first, named or not.

    Args:
        examples: of the training split.
        speed: images a second of a forward pass, where it was measured.
        shift: domain shift of the images, where it is known.
        is_measured: whether the shift was measured, and not assumed.

    Raises:
        UserError: an unknown phase or argument, an `unfreeze` that the backbone does not have, or an argument of a solved
            head that means nothing to it.
    """
    reason = "as --phases says"
    chosen, behind = _built(before_auto(config)), _built(after_auto(config))
    solved = network.head_init == "probe"
    if has_auto(config):
        first = "solve the head" if solved else f"train the head for {counted(HEAD_EPOCHS, 'epoch')}"
        first = "what is named" if chosen else first
        following, reason = auto.phases(config, network, examples, speed, shift, is_measured, first)
        # What is named has trained the head.
        chosen += following if not chosen else [phase for phase in following if phase.epochs]
        reason += ", then what is named after it" if behind else ""
    chosen += behind
    if not chosen:
        rule = f"at least one of {one_of(STRATEGIES)}, or auto is needed"
        raise UserError(f"--phases: {rule}. Received: {config.phases!r}")
    if solved and chosen[0].trains_backbone:
        chosen = [head(epochs=0), *chosen]
    if chosen[0].conditional:
        rule = "the first phase cannot be conditional, for there is none before it that could have gained enough"
        raise UserError(f"--phases: {rule}. Received: '{chosen[0]}'")
    complete = []
    for phase in chosen:
        fresh = solved and not phase.trains_backbone and not complete
        if fresh and phase.epochs is None:
            _check_solved(phase)
        epochs = phase.epochs if phase.epochs is not None else 0 if fresh else HEAD_EPOCHS
        complete.append(
            replace(
                phase,
                epochs=epochs,
                head_lr=auto.head_rate(network) if phase.head_lr == "auto" else phase.head_lr,
                optimizer=phase.optimizer or config.spec("optimizer"),
                schedule=phase.schedule or config.spec("schedule"),
                loss=phase.loss or config.spec("loss"),
                augment=_recipe(phase, config),
            )
        )
        freezing.first_layer(network, phase)
    return complete, reason


def _check_solved(phase: Phase) -> None:
    """Refuses arguments that train a head, where it is solved instead."""
    defaults = head()
    for name in ("lr", *(item.name for item in fields(Phase) if "check" in item.metadata)):
        if getattr(phase, name) != getattr(defaults, name):
            rule = (
                f"{phase.strategy}({name}=) needs epochs=, for this head is solved by --head_init=probe and not trained"
            )
            raise UserError(f"--phases: {rule}. Received: '{phase}'")


def prepare(config: Config, network: Network) -> Network:
    """The network with what its phases put into it for good: adapters, where a phase trains them.

    Raises:
        UserError: a mistake in the phases, or adapters of several kinds.
    """
    phases = _built(before_auto(config)) + _built(after_auto(config))
    wanted = [dict(phase.arguments) for phase in phases if phase.variables == "adapter"]
    if any(arguments != wanted[0] for arguments in wanted):
        rule = "all phases train the same adapters, so reduction= must be the same in each"
        raise UserError(f"--phases: {rule}. Received: {config.phases!r}")
    return bottlenecks.with_adapters(network, **wanted[0]) if wanted else network


def trains_few(config: Config) -> bool:
    """Whether the named phases train only few variables of the backbone, or few numbers in place of them."""
    phases = _built(before_auto(config))
    return not has_auto(config) and not any(p.trains_backbone and p.trains_whole_layers for p in phases)


def trains_backbone(config: Config) -> bool:
    """Whether a named phase, or the rule of `auto`, may train anything but the head."""
    named = _built(before_auto(config)) + _built(after_auto(config))
    return has_auto(config) or any(phase.trains_backbone for phase in named)


def trains_for_eight_bits(config: Config) -> bool:
    """Whether a named phase trains the network as int8 computes it."""
    return any(phase.variables == "quantised" for phase in _built(before_auto(config)) + _built(after_auto(config)))


def build(spec: Spec, flag: str, *, outside: type | tuple = ()) -> tuple[Phase, ...]:
    """The phases that one Spec names.

    Args:
        outside: as in `settings.spec.resolve`: Phase for a Spec whose imports the Config has checked, else nothing.

    Raises:
        UserError: an unknown strategy, or an argument that it does not take.
    """
    found = specs.build(spec, flag, STRATEGIES, kind=Phase | tuple, outside=outside)
    found = found if isinstance(found, tuple) else (found,)
    if "." not in spec.name:
        return found
    return tuple(
        phase if _reads_back(phase) else replace(phase, origin=Origin(spec, index, phase))
        for index, phase in enumerate(found)
    )


def _reads_back(phase: Phase) -> bool:
    """Whether a strategy of kerasft gives the phase that a foreign one gave."""
    try:
        return build(specs.parse_one(str(phase), "--phases"), "--phases") == (phase,)
    # There is no such strategy, or it has other arguments.
    except UserError:
        return False


def parse(text: str) -> Phase:
    """The phase that `str(phase)` wrote.

    Raises:
        UserError: it is no phase, or somebody's own strategy does not give it any more.
    """
    spec = specs.parse_one(text, "--phases")
    if spec.name != FOREIGN:
        found = build(spec, "--phases", outside=Phase)
        if len(found) > 1:
            raise UserError(f"--phases: {spec.name} gives {len(found)} phases, where one is needed. Received: '{spec}'")
        return found[0]
    origin, place = spec.args
    found = build(origin, "--phases", outside=Phase)
    if place >= len(found):
        rule = f"{origin.name} does not give as many phases as when the run began; start again with --noresume"
        raise UserError(f"--phases: {rule}. Received: '{origin}'")
    return replace(found[place], **spec.kwargs)


def resumed(config: Config, texts: list[str]) -> list[Phase]:
    """The phases of a run that goes on.

    Args:
        texts: of its `settled.json`.

    Raises:
        UserError: as `parse`, or a text names foreign code that `--phases` does not name.
    """
    named = {str(spec) for spec in (*before_auto(config), *after_auto(config))}
    for spec in (specs.parse_one(text, "--phases") for text in texts):
        # A run folder lets no code in that the command line has not allowed.
        if spec.name == FOREIGN and str(spec.args[0]) not in named:
            rule = f"the run was begun with '{spec.args[0]}'; name it again, or start again with --noresume"
            raise UserError(f"--phases: {rule}. Received: {config.phases!r}")
    return [parse(text) for text in texts]


def with_blocks(phase: Phase, blocks: tuple[str, ...]) -> Phase:
    """The phase that trains these blocks.

    Args:
        phase: whose `unfreeze` is None.
        blocks: each named by its first layer.
    """
    if phase.origin:
        return replace(phase, unfreeze=blocks)
    spec = specs.parse_one(str(phase), "--phases")
    return parse(str(Spec(spec.name, spec.args, {**spec.kwargs, "layers": blocks})))


def before_auto(config: Config) -> tuple[Spec, ...]:
    """The phases that `--phases` names: all, or those before `auto`.

    Raises:
        UserError: `auto` stands there twice, or with arguments.
    """
    return _around_auto(config)[0]


def after_auto(config: Config) -> tuple[Spec, ...]:
    """The phases that `--phases` names after `auto`, such as a quantisation-aware one. Raises as `before_auto`."""
    return _around_auto(config)[1]


def has_auto(config: Config) -> bool:
    """Whether the rule of `auto` chooses the phases, or some of them."""
    return "auto" in map(str, config.specs("phases"))


def _around_auto(config: Config) -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    found, place = config.specs("phases"), len(config.specs("phases"))
    if has_auto(config):
        place = list(map(str, found)).index("auto")
    parts = found[:place], found[place + 1 :]
    if any(spec.name == "auto" for part in parts for spec in part):
        raise UserError(f"--phases: auto stands once, and has no arguments. Received: {config.phases!r}")
    return parts


def _built(found: tuple[Spec, ...]) -> list[Phase]:
    return [phase for spec in found for phase in build(spec, "--phases", outside=Phase)]


def count_before_auto(config: Config, network: Network) -> int:
    """How many phases of a plan are named before `auto`'s, a solved head before them included."""
    chosen = _built(before_auto(config))
    return len(chosen) + bool(chosen and network.head_init == "probe" and chosen[0].trains_backbone)


def count_after_auto(config: Config) -> int:
    """How many phases of a plan are named after `auto`'s."""
    return len(_built(after_auto(config)))


def count_at_most(config: Config, network: Network) -> int:
    """How many phases a plan may have."""
    named = count_before_auto(config, network) + count_after_auto(config)
    return named + (PHASES_OF_AUTO if has_auto(config) else 0)


def _recipe(phase: Phase, config: Config) -> tuple[Spec, ...]:
    """A phase's own augmentation (`none` for none of it), or the flag's."""
    if phase.augment is None:
        return config.specs("augment")
    recipe = phase.augment if isinstance(phase.augment, tuple) else (phase.augment,)
    return () if [str(spec) for spec in recipe] == ["none"] else recipe
