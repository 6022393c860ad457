"""Which blocks of the backbone a phase trains, where that is measured when the phase begins."""

import math
from dataclasses import replace

import numpy as np
import tensorflow as tf

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.networks import blocks
from kerasft.networks.network import Network
from kerasft.strategies import freezing, planning
from kerasft.strategies.phase import Phase
from kerasft.training import phase_inputs
from kerasft.training.train_setup import TrainSetup, gradient_scale, loss_of

# Batches of training images whose mean gradient is measured, at most.
MAX_BATCHES = 16


def resolve(setup: TrainSetup, phase: Phase) -> Phase:
    """The phase with its blocks: those with the highest ratio of the gradient's norm to that of their weights.

    Auto-RGN (Lee et al. 2023, section 4) by blocks. The gradient is that of the phase's loss over up to `MAX_BATCHES`
    batches of training images without augmentation, in inference mode, so nothing is drawn and no statistics move.

    Args:
        phase: whose `unfreeze` is None.
    """
    network = setup.network
    freezing.apply(network, replace(phase, unfreeze=1.0))
    names = blocks.starts(network)
    ratios = _ratios(setup, phase, names)
    ranked = sorted(names, key=lambda name: -ratios[name])
    chosen = ranked[: phase.arguments.get("blocks", 1)]
    console.say(
        f"{phase.strategy}: of {len(names)} blocks, gradients are largest relative to the weights in "
        + ", ".join(f"{name} ({ratios[name]:.3g})" for name in chosen)
        + f"; the median is {np.median(list(ratios.values())):.3g}"
    )
    # From the input to the output, whatever their ratios.
    return planning.with_blocks(phase, tuple(sorted(chosen, key=names.index)))


def _ratios(setup: TrainSetup, phase: Phase, names: list[str]) -> dict[str, float]:
    """By block: the norm of the mean gradient divided by the norm of the weights that train."""
    network = setup.network
    by_block = _variables(network, names)
    variables = [variable for group in by_block.values() for variable in group]
    loss = loss_of(setup, phase.loss)

    scale = gradient_scale(network.model)

    @tf.function
    def gradients(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            value = scale * tf.reduce_mean(weights * loss(labels, network.model(images, training=False)))
        found = tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # Those of an embedding are of the rows that were looked up.
        return [tf.convert_to_tensor(one) for one in found]

    load = phase_inputs.images(network, setup.splits, replace(phase, augment=(), image_size=None), 0).load
    stream = pipeline.training_stream(
        setup.splits.train.labels,
        load,
        batch_size=setup.batch_size,
        seed=setup.config.seed,
        sampling=setup.config.sampling,
        weights=setup.example_weights,
        first_step=0,
        last_step=min(MAX_BATCHES, setup.steps_per_epoch),
    )
    totals = [np.zeros(variable.shape, np.float64) for variable in variables]
    for images, labels, *weights in stream:
        share = weights[0] if weights else tf.ones(len(labels))
        for total, gradient in zip(totals, gradients(images, labels, tf.cast(share, tf.float32))):
            total += np.asarray(gradient, np.float64) / scale
    sums = {id(variable): float((total**2).sum()) for variable, total in zip(variables, totals)}
    found = {}
    for name, group in by_block.items():
        size = math.sqrt(sum(float((np.asarray(variable, np.float64) ** 2).sum()) for variable in group))
        found[name] = math.sqrt(sum(sums[id(variable)] for variable in group)) / max(size, 1e-12)
    return found


def _variables(network: Network, names: list[str]) -> dict[str, list[tf.Variable]]:
    """The variables that train of each block."""
    layers = {layer.name: layer for layer in network.model.layers}
    places = [network.backbone.index(name) for name in names]
    found = {}
    for name, start, end in zip(names, places, [*places[1:], None]):
        inside = [layers[one] for one in network.backbone[start:end] if one in layers]
        found[name] = [variable.value for layer in inside for variable in layer.trainable_variables]
    return found
