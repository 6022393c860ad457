"""What a network computes in, chosen by measuring, and whether its steps are compiled."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasft import model as models
from kerasft import phases
from kerasft.config import Config
from kerasft.model import Network
from kerasft.phases import Phase

ROUNDS = 4  # of one step in each precision; the fastest counts
SMALL = 8  # pictures of a step that fill the cores of a CPU; a GPU takes the whole batch
WORTH = 1.2  # times as fast that another precision has to be
TENSOR_CORES = (7, 0)  # compute capability of NVIDIA GPUs from which float16 has hardware of its own


class Choice(NamedTuple):
    """What `choose` settled.

    Attributes:
        policy: `float32`, `mixed_bfloat16` or `mixed_float16`.
        reason: in half a line.
        seconds: of a training step in each policy that was measured.
    """

    policy: str
    reason: str
    seconds: dict[str, float]


def choose(config: Config, network: Network, phase: Phase | None) -> Choice:
    """Settles `--precision`; `auto` times a few training steps on random pictures.

    Args:
        config: its `precision`, `batch_size` and `deterministic` count.
        network: in float32; its weights are as before afterwards.
        phase: whose steps are measured: the one that takes longest. None where nothing is trained.
    """
    if config.precision != "auto":
        return Choice(config.precision, "as --precision says", {})
    rival = _rival()
    if config.deterministic or phase is None or rival is None:
        why = "--deterministic" if config.deterministic else "nothing to train" if rival else "no hardware for less"
        return Choice("float32", why, {})
    batch = config.batch_size if rival == "mixed_float16" else min(config.batch_size, SMALL)
    steps = {policy: _step(models.in_precision(network, policy), phase, batch) for policy in ("float32", rival)}
    seconds = dict.fromkeys(steps, float("inf"))
    for _ in range(ROUNDS):  # in turn: what else runs on the machine slows both down
        for policy, step in steps.items():
            started = time.monotonic()
            step()
            seconds[policy] = min(seconds[policy], round(time.monotonic() - started, 5))
    gain = seconds["float32"] / seconds[rival]
    return Choice(rival if gain >= WORTH else "float32", f"{rival} is {gain:.2f} times as fast as float32", seconds)


def _rival() -> str | None:
    """What may be faster than float32 here."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        features = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        return "mixed_bfloat16" if "avx512_bf16" in features or "amx_bf16" in features else None
    details = tf.config.experimental.get_device_details(gpus[0])
    return "mixed_float16" if details.get("compute_capability", (0, 0)) >= TENSOR_CORES else None


def _step(network: Network, phase: Phase, batch: int) -> Callable[[], None]:
    """A forward and backward pass on random pictures, traced; the network is left as it was."""
    phases.apply(network, phase)
    weights = network.model.get_weights()
    trained = [weight.value for weight in network.model.trainable_weights]

    @tf.function
    def step(images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network.model(images, training=True)))
        return tape.gradient(loss, trained)

    images = tf.random.uniform([batch, network.size, network.size, 3], 0, 255)

    def run() -> None:
        np.asarray(step(images)[-1])
        network.model.set_weights(weights)

    run()
    phases.release(network)
    return run


def jit(setting: str) -> bool:
    """Whether `--jit` compiles steps with XLA; `auto` does on a GPU (on CPUs depthwise networks became 7x slower)."""
    return bool(tf.config.list_physical_devices("GPU")) if setting == "auto" else setting == "on"
