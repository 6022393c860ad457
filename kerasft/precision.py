"""What a network computes in, chosen by measuring, and whether its steps are compiled."""

import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasft import model as models
from kerasft import phases
from kerasft.config import Config
from kerasft.model import Network
from kerasft.phases import Phase

STEPS = 2  # timed, after one that traces; the fastest counts
WORTH = 1.1  # times as fast that another precision has to be
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
        why = "--deterministic" if config.deterministic else "nothing to train" if rival else "no tensor cores"
        return Choice("float32", why, {})
    networks = {"float32": network, rival: models.in_precision(network, rival)}
    seconds = {policy: round(_step_seconds(tried, phase, config.batch_size), 4) for policy, tried in networks.items()}
    gain = seconds["float32"] / seconds[rival]
    return Choice(rival if gain >= WORTH else "float32", f"{rival} is {gain:.2f} times as fast as float32", seconds)


def _rival() -> str | None:
    """What may be faster than float32 here."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "mixed_bfloat16"
    details = tf.config.experimental.get_device_details(gpus[0])
    return "mixed_float16" if details.get("compute_capability", (0, 0)) >= TENSOR_CORES else None


def _step_seconds(network: Network, phase: Phase, batch: int) -> float:
    """The fastest of a few forward and backward passes."""
    phases.apply(network, phase)
    weights = network.model.get_weights()
    trained = [weight.value for weight in network.model.trainable_weights]

    @tf.function
    def step(images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network.model(images, training=True)))
        return tape.gradient(loss, trained)

    images, seconds = tf.random.uniform([batch, network.size, network.size, 3], 0, 255), []
    for _ in range(1 + STEPS):
        started = time.monotonic()
        np.asarray(step(images)[-1])
        seconds.append(time.monotonic() - started)
    network.model.set_weights(weights)
    phases.release(network)
    return min(seconds[1:])


def jit(setting: str) -> bool:
    """Whether `--jit` compiles steps with XLA; `auto` does on a GPU (on CPUs depthwise networks became 7x slower)."""
    return bool(tf.config.list_physical_devices("GPU")) if setting == "auto" else setting == "on"
