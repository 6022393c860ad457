"""The models of a search, for KerasTuner: built from a Config and a trial's values, trained phase by phase."""

import gc
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import tensorflow as tf

from kerasft.data import pipeline, sources
from kerasft.data.splits import Splits
from kerasft.evaluation import metrics, scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.job.audit import audited_splits
from kerasft.job.reframe import framed_splits
from kerasft.job.resolve import resolve_settings
from kerasft.networks import network as networks
from kerasft.networks.network import Network
from kerasft.optimization import losses
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, did_you_mean
from kerasft.strategies import auto, planning
from kerasft.training import trainer
from kerasft.training.trainer import Trained
from kerasft.tune import rates, search_space

OBJECTIVES = {  # of the validation split, by task: names as in metrics.json, and what is better
    "single_label": {"loss": "min", "accuracy": "max", "top5_accuracy": "max", "macro_f1": "max", "ece": "min"},
    "multi_label": {
        **{"loss": "min", "map": "max", "micro_f1": "max", "macro_f1": "max"},
        **{"exact_match": "max", "ece": "min"},
    },
    "regression": {"loss": "min", "mae": "min", "scaled_mae": "min", "rmse": "min", "r2": "max"},
}
DEFAULT_BATCH_SIZE = 64  # pictures a step in evaluation


class HyperModel(keras_tuner.HyperModel):
    """A Config and what is searched around it, for a tuner of KerasTuner.

    The data are audited and split once for all trials. Training goes through the same phases as everywhere; the test
    split is not touched.

        hypermodel = kerasft.HyperModel(kerasft.Config(data="folder:photos"), "lr=log(1e-4, 1e-2)")
        tuner = keras_tuner.RandomSearch(hypermodel, objective="val_loss", max_trials=10)
        tuner.search()

    Args:
        config: what is trained where nothing is searched.
        search: as `--search`.
        folder: where the audit is written and the cache is kept, unless `--keep_cache` does; a temporary one by default.
        sets_epochs: whether the tuner sets the epochs of trials, as hyperband does.
        winner_phases: what the winner goes on with, which counts for what `auto` settles, and is checked too.

    Attributes:
        config: with what `auto` settles of weights, image size and precision, the same for all trials.
        framing: what `--framing` is, or what `auto` comes to, the same for all trials that do not search it.
        space: the dimensions of the search.
        task: `single_label`, `multi_label` or `regression`.
        trained, records: the whole Config of the trial that was trained last, and the records of its phases.

    Raises:
        UserError: a mistake in the Config or the search, before a picture is read.
    """

    def __init__(
        self,
        config: Config,
        search: str,
        folder: str | Path | None = None,
        *,
        sets_epochs: bool = False,
        winner_phases: str = "",
    ):
        super().__init__()
        if folder is None:
            folder = tempfile.mkdtemp()
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.folder, self.space = Path(folder), search_space.parse(search, config)
        self.listing = sources.load(config)
        self.task = self.listing.task
        self.config = _sharing(config, self.folder)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        whole = f"{config.phases} | {winner_phases}" if winner_phases else config.phases
        network, resolved = resolve_settings(replace(self.config, phases=whole), self.listing, self.folder)
        if not any(dimension.name.partition(".")[0] == "backbone" for dimension in self.space):
            kept = {name: getattr(resolved, name) for name in ("weights", "image_size", "precision")}
            self.config = replace(self.config, **kept)
        # All trials do alike.
        self.config = replace(self.config, batch_size=self.config.batch_size or auto.DEFAULT_BATCH_SIZE)
        self._check(network, epochs=1 if sets_epochs else None)
        # The splits on which the framing was chosen, until they are asked for.
        self._framed: dict[tuple, Splits] = {}
        if resolved.framing is None:
            splits = framed_splits(self.config, self.listing, network, resolved, self.folder)
            self._framed[network.size, config.framing, config.per_class_limit] = splits
        self.framing = resolved.framing
        self.data = lru_cache(maxsize=2)(self._data)

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Registers the searched settings."""
        search_space.declare(self.space, hp)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The network of a trial, pictures float32 [N, S, S, 3] to logits or values, with a fresh head."""
        keras.utils.set_random_seed(self.config.seed)
        config = search_space.applied(self.config, self.space, search_space.declare(self.space, hp))
        with tempfile.TemporaryDirectory() as place:
            network, resolved = resolve_settings(config, self.listing, Path(place))
        self._built = network, resolved
        return network.model

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *,
        folder: Path | None = None,
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        **_: Any,
    ) -> dict[str, float]:
        """Trains what `build` gave; the figures of the validation split as `val_loss`, `val_accuracy` and so on.

        Args:
            model: as `build` returned it.
            folder: where the trial is recorded and, stopped, goes on; a temporary one by default.
            epochs, initial_epoch: of the last phase that has epochs, their difference; by default as configured.
            callbacks: called once, after the training, so that they can save the model.
        """
        network, resolved = self._built
        if network.model is not model:
            raise ValueError("fit needs the model that build gave last")
        values = search_space.declare(self.space, hp)
        config = search_space.applied(self.config, self.space, values)
        data = self.data(network.size, config.framing, config.per_class_limit)
        config = self.configured(values, network, len(data.train), epochs and epochs - initial_epoch)
        with tempfile.TemporaryDirectory() as place:
            trained = trainer.train(config, network, data, folder or Path(place), resolved)
            self.trained, self.records = config, [record.to_json() for record in trained.state.records]
            found = self._measured(network, data, trained)
        callback_list = keras.callbacks.CallbackList(list(callbacks), model=model)
        callback_list.on_train_begin()
        callback_list.on_epoch_begin(0)
        callback_list.on_epoch_end(0, dict(found))
        callback_list.on_train_end()
        return found

    def configured(
        self, values: Mapping[str, Any], network: Network, examples: int, epochs: int | None = None
    ) -> Config:
        """The Config of a trial, whole: the searched rate and epochs are in its `phases`.

        Args:
            values: of the trial, by the dimension's name.
            examples: of the training split.
            epochs: in place of searched ones.
        """
        config = search_space.applied(self.config, self.space, values)
        rate, epochs = values.get("lr"), epochs or values.get("epochs")
        if rate is None and epochs is None:
            return config
        return replace(config, phases=rates.written(config, network, examples, rate, epochs))

    def objective(self, name: str) -> keras_tuner.Objective:
        """A validation figure as KerasTuner's objective, with its direction.

        Raises:
            UserError: from `--objective`.
        """
        known = {f"val_{key}": value for key, value in OBJECTIVES[self.task].items()}
        if len(self.listing.classes) <= 5:
            known.pop("val_top5_accuracy", None)
        if name not in known:
            rule = f"must be one of {', '.join(known)} for {self.task}"
            raise UserError(f"--objective: {rule}{did_you_mean(name, known)}. Received: {name!r}")
        return keras_tuner.Objective(name, known[name])

    def _check(self, network: Network, epochs: int | None) -> None:
        """Builds, without a picture, whatever the values at the ends of the space name."""
        if epochs and any(dimension.name == "epochs" for dimension in self.space):
            raise UserError("--search: hyperband sets the epochs itself. Received: 'epochs'")
        outputs, task, count = len(self.listing.classes), self.task, max(1, len(self.listing.ids))
        built = {_shape(self.config): network}
        for dimension in self.space:
            for values in search_space.probes(dimension, self.space):
                try:
                    config = search_space.applied(self.config, self.space, values)
                    key = _shape(config)
                    if key not in built:
                        built[key] = networks.build(config, outputs, task)
                    planning.check(self.configured(values, built[key], count, epochs), built[key])
                except UserError as error:
                    shown = ", ".join(f"{name}={value}" for name, value in values.items())
                    raise UserError(f"--search, {shown}: {str(error).removeprefix('--search: ')}") from None
        built.clear()
        forget()

    def _data(self, size: int, framing: str, per_class_limit: int | None) -> Splits:
        if framed := self._framed.pop((size, framing, per_class_limit), None):
            return framed
        config = replace(self.config, per_class_limit=per_class_limit)
        listing = replace(self.listing, framing=self.framing if framing == "auto" else framing)
        return audited_splits(config, listing, size, self.folder)

    def _measured(self, network: Network, data: Splits, trained: Trained) -> dict[str, float]:
        """Figures of the validation split, without weights of examples: of all trials alike."""
        # A trial that was killed after its last phase has no inputs any more.
        if trained.validation_outputs:
            outputs = trained.validation_outputs()
        else:
            stream = pipeline.evaluation_stream(data.val, size=network.size, batch_size=DEFAULT_BATCH_SIZE)
            outputs = scoring.make_predictor(network.model)(stream)
        several = self.task == "multi_label"
        limits = (
            metrics.fit_thresholds(scoring.apply_activation(self.task, outputs), data.val.labels) if several else None
        )
        error = losses.error(self.config.spec("loss"), self.task)
        scorer = Scorer(self.task, data.val.labels, trained.setup.scorer.scale, error=error)
        found = metrics.compute(scorer, outputs, data.classes, limits)
        return {f"val_{key}": found[key] for key in OBJECTIVES[self.task] if isinstance(found.get(key), float)}


def forget() -> None:
    """Frees the networks of earlier trials."""
    keras.backend.clear_session()
    gc.collect()


def _sharing(config: Config, folder: Path) -> Config:
    """The Config without what only a run of its own needs; trials share what the frozen layers make of the pictures."""
    shared = {} if config.keep_cache else {"keep_cache": True, "cache_dir": str(folder / "cache")}
    return replace(config, tensorboard=False, **shared)


def _shape(config: Config) -> tuple:
    """What a network's graph depends on."""
    return tuple(
        getattr(config, n) for n in ("backbone", "weights", "preprocessing", "image_size", "head", "head_init")
    )
