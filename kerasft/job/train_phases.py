"""The first half of a run: everything until its phases are trained. The export, or a comparison, goes on from there."""

import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasft.console import console
from kerasft.data.listing import Listing
from kerasft.data.splits import Splits
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Predictor, Scorer
from kerasft.job import uncertainty
from kerasft.job.backbone import choose_backbone
from kerasft.job.build_network import resolve_settings
from kerasft.job.evaluate import Evaluation, evaluate, fit_thresholds, predict_split, write_predictions
from kerasft.job.file_changes import refuse_other_files
from kerasft.job.framed_splits import audit_and_frame
from kerasft.job.tta import resolve_tta
from kerasft.networks import blending, copies, surgery
from kerasft.networks.network import Network
from kerasft.optimization import averages
from kerasft.settings import failures
from kerasft.settings.config import Config
from kerasft.storage import checkpoints, disk_cache, disk_space, resolved_settings, weight_delta
from kerasft.strategies import budget, planning
from kerasft.training import trainer
from kerasft.training.trainer import Trained


@dataclass(frozen=True)
class TrainedRun:
    """A run whose phases are trained. Its test images are not scored, and nothing is exported.

    Attributes:
        folder: the run folder. Its checkpoint has the trained weights, so the same Config goes on from here.
        network: in float32.
        splits: the examples; test is not read yet.
        trained: what the trainer left.
        scorer: of the validation split.
        forward: the served network, traced: from batches of images to outputs.
        val_outputs: of the network, float32 [N, ...].
        thresholds: float32 [C] for multi-label, chosen on validation; else None.
        needed_bytes: what the run needs on disk.
        initial_backbone: weights of the backbone before training, by `copies.weights_by_name`; empty where nobody needs them.
    """

    folder: Path
    network: Network
    splits: Splits
    trained: Trained
    scorer: Scorer
    forward: Predictor
    val_outputs: np.ndarray
    thresholds: np.ndarray | None
    needed_bytes: int
    initial_backbone: dict[str, np.ndarray]

    def evaluate(self) -> Evaluation:
        """Scores validation and test, and writes `predictions.npz`. The test split is read here for the first time."""
        predict = partial(predict_split, self.forward, self.network)
        found = evaluate(self.network, self.splits, self.scorer, predict, self.val_outputs, self.thresholds)
        write_predictions(self.folder, self.network.task, self.splits, found)
        return found

    def noting_disk_space(self) -> AbstractContextManager[None]:
        """Adds to an error of the block how much disk space the run needs."""
        return add_note(f"about {failures.format_bytes(self.needed_bytes)} are needed in all")


def train_phases(
    config: Config,
    listing: Listing,
    folder: Path,
    exports: Path,
    seconds: dict[str, float],
    began: float,
    framing: str | None = None,
) -> TrainedRun:
    """Audits, resolves the settings and trains all phases in a locked run folder, or goes on where a run was stopped.

    Args:
        exports: the folder whose free space is checked as well as that of the run folder.
        seconds: gets the times of `audit` and `train`. Under `train` is also what earlier starts of the run took.
        began: moment of the monotonic clock from which `--budget_minutes` and the time of this start count.
        framing: as `resolve_settings`.

    Raises:
        UserError: something is wrong with the Config, the data or the run folder.
    """
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if not checkpoints.exist(folder):
        # It is of an attempt that was stopped early. Nothing tells whether the data have changed since.
        (folder / resolved_settings.FILE_NAME).unlink(missing_ok=True)
    elif settled := resolved_settings.read(folder):
        refuse_other_files(settled.to_json(), folder)
    with record_seconds(seconds, "train"):
        config, choice, audited = choose_backbone(config, listing, folder)
    if audited:
        seconds["train"], seconds["audit"] = round(seconds["train"] - audited.seconds, 3), round(audited.seconds, 3)
    network, resolved = resolve_settings(config, listing, folder, choice, framing)
    before = _weights_of_backbone(network) if network.pretrained or planning.trains_few(config) else {}
    with record_seconds(seconds, "audit"):
        splits = audit_and_frame(config, listing, network, resolved, folder, audited)
    uncertainty.check_count(config, splits)
    weight_bytes = sum(weight.nbytes for weight in network.model.get_weights())
    ingredients = averages.SOUP_INGREDIENTS * any(one.over_epochs for one in averages.build(config.specs("average")))
    phases = planning.count_at_most(config, network)
    cache = disk_cache.from_config(config, folder).folder
    needed = disk_space.check_free_space(
        weight_bytes, folder, exports, phases=phases, cache=cache, more_copies=ingredients
    )
    with record_seconds(seconds, "train"), add_note(f"about {failures.format_bytes(needed)} are needed in all"):
        minutes, decoding = config.budget_minutes, seconds["audit"] / max(len(listing.ids), 1)
        allowance = None if minutes is None else budget.Allowance(60 * minutes, began, decoding)
        trained = trainer.train(config, network, splits, folder, resolved, allowance, began)
        # A network that was trained in mixed precision is served in float32, and without blends.
        whole = surgery.precision(trained.setup.network, "float32")
        network = blending.without_blends(whole)
        _say_unblended(whole)
        scorer, resolved = trained.setup.scorer, trained.state.resolved
        cached_outputs = trained.validation_outputs if network is trained.setup.network else None
        forward = scoring.make_predictor(network.served())
        val_outputs = cached_outputs() if cached_outputs else predict_split(forward, network, splits.val)
        network, val_outputs = resolve_tta(config, network, splits.val, scorer, val_outputs, resolved)
        resolved.write(folder)
        forward = forward if network.tta == "none" else scoring.make_predictor(network.served())
        thresholds = fit_thresholds(network.task, splits, val_outputs)
    seconds["train"] = round(seconds["train"] + trained.earlier_seconds, 3)
    if before and planning.trains_few(config):
        _write_delta(folder, before, whole)
    return TrainedRun(folder, network, splits, trained, scorer, forward, val_outputs, thresholds, needed, before)


def _weights_of_backbone(network: Network) -> dict[str, np.ndarray]:
    """The weights of the backbone by `copies.weights_by_name`."""
    named, backbone = copies.weights_by_name(network.model), set(network.backbone)
    return {name: np.asarray(weight).copy() for name, weight in named.items() if name.rpartition("/")[0] in backbone}


def _say_unblended(network: Network) -> None:
    """Says where an activation was to be blended in, and no phase trained the layers."""
    blends = blending.blends_of(network.model)
    if left := [blend for blend in blends if blend.kept() is blend.old]:
        where = f"in {len(left)} of {len(blends)} places, which no phase trained"
        console.say(f"warning: --surgery: the old activation stays {where}, such as {left[0].name}")


def _write_delta(folder: Path, before: dict[str, np.ndarray], network: Network) -> None:
    """Writes `delta.npz` where it is small, and says so."""
    names = {id(weight): name for name, weight in copies.weights_by_name(network.model).items()}
    start = [before.get(names[id(weight)]) for weight in network.model.weights]
    if (fraction := weight_delta.write(folder, start, network.model.get_weights())) is not None:
        where = f"{weight_delta.FILE_NAME} (kerasft rebuild {shlex.quote(str(folder))})"
        console.say(f"delta: {fraction:.1%} of the weights are in {where}")


@contextmanager
def add_note(text: str) -> Iterator[None]:
    """Adds a note to an error of the block. `failures` prints it."""
    try:
        yield
    except Exception as error:
        error.add_note(text)
        raise


@contextmanager
def record_seconds(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds of the block to those of a name."""
    started = time.monotonic()
    yield
    seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - started, 3)
