"""How a run computes, chosen by measuring: its precision, the images of a step, and whether steps are compiled."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasft.networks import surgery
from kerasft.networks.multiplications import MULTIPLICATIONS_PER_STEP, multiplications
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.settings.errors import counted
from kerasft.strategies import freezing
from kerasft.strategies.auto import DEFAULT_BATCH_SIZE
from kerasft.strategies.phase import Phase
from kerasft.strategies.variables import phase_network

# Rounds of one step in each way, in turn.
TIMED_ROUNDS = 4
# Another way has to be this many times as fast, in each round.
MIN_SPEEDUP = 1.2
# Compute capability of NVIDIA GPUs from which float16 has hardware of its own.
TENSOR_CORES = (7, 0)
# Images of a step that may take the place of `DEFAULT_BATCH_SIZE`.
LARGER_BATCH_SIZES = (64, 128, 256)
# Steps of an epoch that a larger batch has to leave.
MIN_STEPS_PER_EPOCH = 32
# Steps of a run: with fewer, compiling is not looked at.
MIN_STEPS_FOR_XLA = 500
# Seconds of a run: compiling takes up to half a minute a phase, and wins a third at the best.
MIN_SECONDS_FOR_XLA = 600.0
# Multiplications of a phase from which its precision is measured. Two cores take some ten minutes for as many; to trace
# and time the steps takes them five to ten seconds.
MIN_MULTIPLICATIONS_FOR_PRECISION = 1e13


class MeasuredChoice(NamedTuple):
    """What was settled.

    Attributes:
        value: a policy (`float32`, `mixed_bfloat16`, `mixed_float16`), images a step, or `on` and `off`.
        reason: in half a line.
        seconds: of a training step in each way that was measured, in its fastest round: processor time on a CPU, so other
            processes do not count; wall-clock time on a GPU.
    """

    value: Any
    reason: str
    seconds: dict[Any, float] = {}


def precision(config: Config, network: Network, phase: Phase | None, examples: int) -> MeasuredChoice:
    """Settles `--precision`; `auto` times a few training steps on random images, where the training is long enough.

    Args:
        config: its `precision`, `batch_size` and `deterministic` count.
        network: in float32; its weights are as before afterwards.
        phase: whose steps are measured: the one that takes longest. None where nothing is trained.
        examples: of an epoch, at most.
    """
    if config.precision != "auto":
        return MeasuredChoice(config.precision, "as --precision says")
    rival = _rival()
    if config.deterministic or phase is None or rival is None:
        why = "--deterministic" if config.deterministic else "nothing to train" if rival else "no hardware for less"
        return MeasuredChoice("float32", why)
    if _multiplications(network, phase, examples) < MIN_MULTIPLICATIONS_FOR_PRECISION:
        return MeasuredChoice("float32", f"the training is too short to measure whether {rival} is faster")
    batch = config.batch_size or DEFAULT_BATCH_SIZE
    ways = {policy: (surgery.precision(network, policy), phase, batch) for policy in ("float32", rival)}
    seconds, gain = _measured(ways)
    return MeasuredChoice(
        rival if gain >= MIN_SPEEDUP else "float32", f"{rival} is {gain:.2f} times as fast as float32", seconds
    )


def batch_size(config: Config, network: Network, phase: Phase | None, examples: int) -> MeasuredChoice:
    """Settles `--batch_size`; on a GPU larger ones than 32 are timed, each twice the one before, as long as that pays.

    A batch changes what is learned, so it has to be worth it, and to leave 32 steps an epoch. A CPU's cores are full with
    fewer images.

    Args:
        network: in the precision of the run; its weights are as before afterwards.
        phase: as in `precision`.
        examples: of the training split.
    """
    if config.batch_size is not None:
        return MeasuredChoice(config.batch_size, "as --batch_size says")
    larger = [size for size in LARGER_BATCH_SIZES if size * MIN_STEPS_PER_EPOCH <= examples]
    if config.deterministic or phase is None or not larger or not on_accelerator():
        whys = {"--deterministic": config.deterministic, "nothing to train": phase is None}
        whys |= {f"{examples} examples": not larger, "the cores of a CPU are full with it": True}
        return MeasuredChoice(DEFAULT_BATCH_SIZE, next(why for why, holds in whys.items() if holds))
    chosen, seconds, gain = DEFAULT_BATCH_SIZE, {}, 1.0
    for size in larger:
        try:
            found, gain = _measured({way: (network, phase, way) for way in (chosen, size)})
        except tf.errors.ResourceExhaustedError:
            return MeasuredChoice(chosen, f"{size} do not fit into memory", seconds)
        seconds |= found
        gain *= size / chosen
        if gain < MIN_SPEEDUP:
            return MeasuredChoice(chosen, f"{size} are {gain:.2f} times as fast as {chosen}", seconds)
        chosen = size
    return MeasuredChoice(chosen, f"{gain:.2f} times as fast as {chosen // 2}", seconds)


def compiled(config: Config, network: Network, phase: Phase | None, batch: int, steps: int) -> MeasuredChoice:
    """Settles `--jit`: whether XLA compiles steps; `auto` times both ways where the run is long enough to win by it.

    Args:
        network, phase: as in `batch_size`.
        batch: images a step.
        steps: of all phases.
    """
    if config.jit != "auto":
        return MeasuredChoice(config.jit, "as --jit says")
    if config.deterministic or phase is None or steps < MIN_STEPS_FOR_XLA:
        whys = {"--deterministic": config.deterministic, "nothing to train": phase is None}
        why = next((why for why, holds in whys.items() if holds), f"too few steps to win by it ({steps})")
        return MeasuredChoice("off", why)
    try:
        run = steps * time_step(network, phase, batch)[1]
        if run < MIN_SECONDS_FOR_XLA:
            return MeasuredChoice("off", f"{counted(steps, 'step')} in about {run:.0f} s: too little to win by it")
        seconds, gain = _measured({"plain": (network, phase, batch), "compiled": (network, phase, batch, True)})
    except tf.errors.OpError as error:  # no memory, or an operation that XLA does not have
        return MeasuredChoice("off", f"a step could not be compiled ({type(error).__name__})")
    return MeasuredChoice(
        "on" if gain >= MIN_SPEEDUP else "off", f"compiled steps are {gain:.2f} times as fast as plain ones", seconds
    )


def on_accelerator() -> bool:
    """Whether the network computes on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def _rival() -> str | None:
    """What may be faster than float32 here."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        features = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        return "mixed_bfloat16" if "avx512_bf16" in features or "amx_bf16" in features else None
    details = tf.config.experimental.get_device_details(gpus[0])
    return "mixed_float16" if details.get("compute_capability", (0, 0)) >= TENSOR_CORES else None


def _measured(ways: dict[Hashable, tuple]) -> tuple[dict[Any, float], float]:
    """Seconds of a step in each of two ways, and how many times as fast the second is.

    A change has to win every time, so the speedup is the least of all rounds. Rounds end with the first that the second
    way does not win. On a CPU a round is judged by processor time, which what else runs does not add to. Threads that wait
    for each other on a busy machine burn processor time too. So the second way counts as no faster than the clock says,
    by the medians, where the clock says that it is slower.

    Args:
        ways: arguments of `_step`; the networks are left as they were.
    """
    on_device = on_accelerator()
    with _kept(given[0] for given in ways.values()):
        steps = [_step(*given) for given in ways.values()]
        rounds, clocked = [], []
        for turn in range(TIMED_ROUNDS):
            taken, walls = [0.0, 0.0], [0.0, 0.0]
            # Which goes first changes: what grows slower or faster meanwhile favours neither.
            for place in ((0, 1), (1, 0))[turn % 2]:
                wall, processor = time.monotonic(), time.process_time()
                steps[place]()
                walls[place] = max(time.monotonic() - wall, 1e-9)
                taken[place] = walls[place] if on_device else max(time.process_time() - processor, 1e-9)
            rounds.append(taken)
            clocked.append(walls)
            if taken[0] <= taken[1]:
                break
    gain = min(first / second for first, second in rounds)
    first, second = np.median(clocked, 0)
    gain = gain if first >= second else min(gain, float(first / second))
    return {way: round(min(found), 5) for way, found in zip(ways, zip(*rounds))}, gain


def time_step(network: Network, phase: Phase, batch: int, seconds: float = 0.0) -> tuple[float, float]:
    """Seconds of the clock until the first training step of a phase is done, and of a step after it: their mean.

    Args:
        network: left as it was.
        batch: images a step.
        seconds: how long steps are timed; at least two are. Where other processes run, short bursts have all cores, and
            only a longer time shows what the phase will have.
    """
    with _kept([network]):
        started = time.monotonic()
        # It does one step.
        step = _step(network, phase, batch)
        first, count = time.monotonic(), 0
        while count < 2 or time.monotonic() - first < seconds:
            step()
            count += 1
        return first - started, (time.monotonic() - first) / count


def _multiplications(network: Network, phase: Phase, examples: int) -> float:
    """Multiplications of a phase that trains all layers; fewer where some are frozen."""
    area = ((phase.image_size or network.size) / network.size) ** 2
    return MULTIPLICATIONS_PER_STEP * multiplications(network.model) * area * phase.epochs * examples


@contextmanager
def _kept(networks: Iterable[Network]) -> Iterator[None]:
    """Leaves networks as they were."""
    networks = list({id(network): network for network in networks}.values())
    before = [network.model.get_weights() for network in networks]
    try:
        yield
    finally:
        for network, weights in zip(networks, before):
            freezing.release(network)
            network.model.set_weights(weights)


def _step(network: Network, phase: Phase, batch: int, compiled: bool = False) -> Callable[[], None]:
    """A forward and backward pass on random images, traced; the statistics of BatchNorm move with each."""
    network = phase_network(network, phase)
    freezing.apply(network, phase)
    size = phase.image_size or network.size
    model = surgery.resolution(network, size).model
    trained = [weight.value for weight in network.model.trainable_weights]

    @tf.function(jit_compile=compiled)
    def step(images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(images, training=True)))
        return tape.gradient(loss, trained)

    images = tf.random.uniform([batch, size, size, 3], 0, 255)

    def run() -> None:
        np.asarray(step(images)[-1])

    run()
    return run
