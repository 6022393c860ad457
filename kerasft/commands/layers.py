"""`kerasft layers BACKBONE`: lists its blocks and layers, and how `top(unfreeze=...)` trains from each of them on."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from kerasft.console.columns import columns, write
from kerasft.networks.blocks import starts as starts_of_blocks
from kerasft.settings.config import Config

if TYPE_CHECKING:
    from kerasft.networks.network import Network


class Block(NamedTuple):
    """A block of a backbone.

    Attributes:
        layers: names of its operations, from input to output.
        parameters: number of parameters of all its layers.
        above: number of parameters of this block and all blocks after it.
        fraction: `top(unfreeze=fraction)` trains this block and all after it; None for the layers before the first block.
    """

    layers: tuple[str, ...]
    parameters: int
    above: int
    fraction: float | None


def run(argument: str, all: bool = False) -> None:
    """Prints the blocks of a backbone, or with `all` every layer."""
    from kerasft.console import stderr_filter

    with stderr_filter.without_notices():
        from kerasft.networks import network as networks

        # Names and shapes need no weights.
        network = networks.build(Config(backbone=argument, weights="none", head_init="zeros"), 2, "single_label")
    write(table(network, every=all))


def table(network: "Network", every: bool) -> str:
    """Returns the blocks as text: number, first layer, output shape, parameters, and the fraction that unfreezes from there.

    Args:
        every: a line for each layer instead of each block.
    """
    operations = {operation.name: operation for operation in network.model.operations}
    rows, found, number = [], blocks(network), 0
    for block in found:
        number += block.fraction is not None
        fraction = "" if block.fraction is None else f"{block.fraction:g}"
        start = (str(number) if number else "", fraction, f"{block.above:,}")
        if every:
            for index, name in enumerate(block.layers):
                shape, count = _shape(operations[name]), f"{_parameters(operations[name]):,}"
                rows.append((start[0], name, shape, count, *(start[1:] if index == 0 else ("", ""))))
        elif number:
            rows.append(
                (start[0], block.layers[0], _shape(operations[block.layers[-1]]), f"{block.parameters:,}", *start[1:])
            )
    head = ("block", "layer" if every else "first layer", "output", "parameters", "unfreeze", "trained from here")
    total = sum(block.parameters for block in found)
    example = found[-1 - len(found) // 4]
    notes = "".join(f"\n{note}." for note in network.notes)
    return (
        columns(head, rows, right=(head[0], *head[3:]))
        + f"\n\n{network.name}: {total:,} parameters in {number} blocks, images of {network.size} pixels.\n"
        f"Train from a block on with --phases='head | top(unfreeze={example.fraction:g})', or name its first layer: "
        f"top(unfreeze='{example.layers[0]}').\nThe head is trained too, and not counted here.{notes}"
    )


def blocks(network: "Network") -> list[Block]:
    """Returns the blocks of a backbone, from input to output. The layers before the first block come first."""
    operations = {operation.name: operation for operation in network.model.operations}
    starts = [network.backbone.index(name) for name in starts_of_blocks(network)]
    edges = [*starts, len(network.backbone)]
    parts = [(None, network.backbone[: starts[0]])] if starts[0] else []
    for index, (start, end) in enumerate(pairwise(edges)):
        parts.append((unfreeze(len(starts) - index, len(starts)), network.backbone[start:end]))
    counts = [sum(_parameters(operations[name]) for name in names) for _, names in parts]
    return [Block(names, counts[index], sum(counts[index:]), fraction) for index, (fraction, names) in enumerate(parts)]


def unfreeze(wanted: int, total: int) -> float:
    """Returns a short fraction for which `top(unfreeze=...)` unfreezes `wanted` blocks: ceil(fraction * total) == wanted."""
    for digits in range(1, 10):
        scale = 10**digits
        highest = math.floor(wanted / total * scale)
        # Rounding can make the product too large: 0.28 * 25 is 7.000000000000001, whose ceiling is 8.
        for steps in (highest, highest - 1):
            if math.ceil(steps / scale * total) == wanted:
                return steps / scale
    return wanted / total


def _parameters(operation) -> int:
    return operation.count_params() if hasattr(operation, "count_params") else 0


def _shape(operation) -> str:
    """Returns height x width x channels of an operation's output."""
    outputs = operation.output if isinstance(operation.output, list | tuple) else [operation.output]
    return ", ".join("x".join("?" if side is None else str(side) for side in one.shape[1:]) for one in outputs)
