"""The contract of an artefact: written as a draft, proven on the whole test set, and only then put into its place."""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasft.data.splits import Split
from kerasft.export import proof
from kerasft.export.uncertainty_outputs import Uncertainty
from kerasft.networks.network import Network


class Answer(NamedTuple):
    """What an artefact is to say, apart from its weights.

    Attributes:
        run: an identifier of the run. A version that it has published already is proven again, not written twice.
        classes: names of the C classes or the D targets.
        thresholds: float32 [C] for multi-label: from this probability on a class counts as present.
        scale: float [D] for regression, deviation of the training targets.
        framing: how images are made square, a name of `framing.FRAMINGS`.
        uncertainty: what `--abstain` and `--coverage` add.
    """

    run: str
    classes: tuple[str, ...]
    thresholds: np.ndarray | None = None
    scale: np.ndarray | None = None
    framing: str = "crop"
    uncertainty: Uncertainty = Uncertainty()


@dataclass(frozen=True)
class Artefact:
    """Something that a run exports.

    Attributes:
        name: in messages and in `metrics.json`.
        write: writes a network and its answer into a draft folder, which it makes.
        outputs: loads a draft anew and gives what it answers to a task's examples: probabilities float [N, C], or
            values float [N, D]. Images come from the encoded bytes through our decoder.
        place: renames a draft into a folder and gives the path there.
    """

    name: str
    write: Callable[[Network, Answer, Path], None]
    outputs: Callable[[Path, Network, Split], np.ndarray]
    place: Callable[[Path, Path], Path]


def publish(
    artefact: Artefact, network: Network, answer: Answer, split: Split, expected: np.ndarray, folder: Path
) -> dict:
    """Writes an artefact into a folder after proving it.

    Args:
        artefact: such as `keras_model.KERAS_MODEL` or `saved_model.SAVED_MODEL`.
        network: the trained network, in float32.
        answer: names and thresholds.
        split: examples to prove it on.
        expected: float [N, C], the trained model's probabilities for them, or float [N, D], its values.
        folder: of the artefact; made where it is missing.

    Returns:
        `path` and the figures of `proof.compare`.

    Raises:
        ParityError: it scores otherwise, or cannot be loaded. The folder is then as it was.
    """
    draft = write_draft(artefact, network, answer, folder)
    return publish_draft(artefact, draft, network, answer, split, expected)


def write_draft(artefact: Artefact, network: Network, answer: Answer, folder: Path) -> Path:
    """Writes an artefact into a draft folder inside its folder, and gives the draft's path; arguments as `publish`."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    draft = draft_path(folder)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        artefact.write(network, answer, draft)
    except BaseException:
        discard(draft)
        raise
    return draft


def publish_draft(
    artefact: Artefact, draft: Path, network: Network, answer: Answer, split: Split, expected: np.ndarray
) -> dict:
    """Proves a draft and puts it into its place, or removes it; arguments, result and errors as `publish`."""
    try:
        result = prove(artefact, draft, network, answer, split, expected)
        path = artefact.place(draft, draft.parent)
    finally:
        discard(draft)
    return {"path": path.as_posix(), **result}


def draft_path(folder: Path) -> Path:
    """The path of this process's draft in a folder. A server that watches the folder looks at whole numbers only."""
    return folder / f".draft-{platform.node()}-{os.getpid()}"


def discard(draft: Path) -> None:
    """Removes a draft, if it is there."""
    shutil.rmtree(draft, ignore_errors=True)


def prove(artefact: Artefact, path: Path, network: Network, answer: Answer, split: Split, expected: np.ndarray) -> dict:
    """The figures of `proof.compare` of an artefact that is written; arguments and errors as `publish`."""
    given = artefact.outputs(path, network, split)
    return proof.compare(artefact.name, network.task, given, expected, answer.scale, answer.thresholds)


def sweep(folder: Path) -> None:
    """Removes from a folder the drafts of this machine's processes that were killed."""
    for path in folder.glob(f".draft-{platform.node()}-*"):
        number = path.name.rpartition("-")[2]
        try:
            os.kill(int(number), 0)
        except (ValueError, ProcessLookupError):
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            # Somebody else's process, and alive.
            pass
