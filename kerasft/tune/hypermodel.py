"""The models of a search as a KerasTuner hypermodel: built from a Config and a trial's values, trained phase by phase."""

import gc
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import tensorflow as tf

from kerasft.data import pipeline, sources
from kerasft.data.splits import Splits
from kerasft.evaluation import metrics, scoring
from kerasft.job.audited_splits import audit_and_split
from kerasft.job.backbone import Chosen, choose_backbone, likely
from kerasft.job.build_network import resolve_settings
from kerasft.job.framed_splits import audit_and_frame
from kerasft.networks import network as networks
from kerasft.networks.apply_surgeries import apply_surgeries
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, did_you_mean
from kerasft.strategies import auto, plan_checks, planning
from kerasft.training import domain_shift, head_init, trainer
from kerasft.training.trainer import Trained
from kerasft.tune import phase_settings, search_space

# The validation metrics that `--objective` may name, by task, with KerasTuner's direction. Names as in metrics.json.
OBJECTIVES = {
    "single_label": {"loss": "min", "accuracy": "max", "top5_accuracy": "max", "macro_f1": "max", "ece": "min"},
    "multi_label": {
        **{"loss": "min", "map": "max", "micro_f1": "max", "macro_f1": "max"},
        **{"exact_match": "max", "ece": "min"},
    },
    "regression": {"loss": "min", "mae": "min", "scaled_mae": "min", "rmse": "min", "r2": "max"},
}


class HyperModel(keras_tuner.HyperModel):
    """A Config and a search space, for any tuner of KerasTuner.

    The data are audited and split once for all trials. A trial trains the same phases as a run. The test split is not
    read.

        hypermodel = kerasft.HyperModel(kerasft.Config(data="folder:photos"), "lr=log(1e-4, 1e-2)")
        tuner = keras_tuner.RandomSearch(hypermodel, objective="val_loss", max_trials=10)
        tuner.search()

    Args:
        config: the settings that are not searched.
        search: the search space, as `--search` writes it.
        folder: for the audit and for the cache (the latter only without `--keep_cache`); a temporary one by default.
        sets_epochs: whether the tuner sets the epochs of trials, as hyperband does.
        winner_phases: further phases of the winner. They are checked, and taken into account when `auto` is resolved.

    Attributes:
        config: with weights, image size and precision resolved, the same for all trials.
        framing: `--framing`, resolved, the same for all trials that do not search it.
        space: the dimensions of the search.
        task: `single_label`, `multi_label` or `regression`.
        trained_config, records: the Config of the trial that was trained last, and the records of its phases.

    Raises:
        UserError: a mistake in the Config or the search. No image is read before.
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
        # Under regression the loss is measured with --loss. The numbers of two losses cannot be compared.
        own_losses = self.task == "regression" and any(one.name.partition(".")[0] == "loss" for one in self.space)
        self._measures = [key for key in OBJECTIVES[self.task] if not (own_losses and key == "loss")]
        self.config = _share_cache(config, self.folder)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        whole = f"{config.phases} | {winner_phases}" if winner_phases else config.phases
        searched = any(dimension.name.partition(".")[0] == "backbone" for dimension in self.space)
        complete = replace(self.config, phases=whole)
        chosen = Chosen(likely(complete)) if searched else choose_backbone(complete, self.listing, self.folder)
        network, resolved = resolve_settings(chosen.config, self.listing, self.folder, chosen.choice)
        if not searched:
            self.config = replace(
                self.config,
                backbone=chosen.config.backbone,
                weights=resolved.weights,
                image_size=resolved.image_size,
                precision=resolved.precision,
            )
        # All trials have the same batch size, unless it is searched.
        self.config = replace(self.config, batch_size=self.config.batch_size or auto.DEFAULT_BATCH_SIZE)
        self._check(network, epochs=1 if sets_epochs else None)
        self._start = network, resolved
        # The splits on which the framing or the backbone was chosen, until they are asked for.
        self._framed: dict[tuple, Splits] = {}
        self._audited = chosen.audited if config.framing == "auto" else None
        if chosen.audited and config.framing != "auto" and chosen.audited.size == network.size:
            self._framed[network.size, config.framing, config.per_class_limit] = chosen.audited.take()
        self.data = lru_cache(maxsize=2)(self._data)

    @cached_property
    def framing(self) -> str:
        """The framing of all trials that do not search it. It is chosen when images are first read."""
        network, resolved = self._start
        if resolved.framing is None:
            splits = audit_and_frame(self.config, self.listing, network, resolved, self.folder, self._audited)
            self._audited = None
            self._framed[network.size, self.config.framing, self.config.per_class_limit] = splits
        return resolved.framing

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Registers the searched settings."""
        search_space.declare(self.space, hp)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Builds the network of a trial: images float32 [N, S, S, 3] to logits or values, with a new head."""
        keras.utils.set_random_seed(self.config.seed)
        config = search_space.apply_values(self.config, self.space, search_space.declare(self.space, hp))
        with tempfile.TemporaryDirectory() as folder:
            network, resolved = resolve_settings(config, self.listing, Path(folder))
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
        """Trains the model of `build`. Returns its validation metrics: `val_loss`, `val_accuracy` and so on.

        Args:
            model: as `build` returned it.
            folder: where the trial is recorded, and from where a stopped one resumes; a temporary one by default.
            epochs, initial_epoch: their difference is the number of epochs of the last phase that has epochs. By default
                the Config sets it.
            callbacks: called once after the training, so that they can save the model.
        """
        network, resolved = self._built
        if network.model is not model:
            raise ValueError("fit needs the model that build returned last")
        values = search_space.declare(self.space, hp)
        config = search_space.apply_values(self.config, self.space, values)
        data = self.data(network.size, config.framing, config.per_class_limit)
        examples = len(data.train) + len(data.unlabelled or ())
        shift = self._shift(config, network, data)
        config = self.trial_config(values, network, examples, epochs and epochs - initial_epoch, shift)
        with tempfile.TemporaryDirectory() as place:
            trained = trainer.train(config, network, data, folder or Path(place), resolved)
            self.trained_config, self.records = config, [record.to_json() for record in trained.state.records]
            validation_metrics = self._validation_metrics(network, data, trained)
        callback_list = keras.callbacks.CallbackList(list(callbacks), model=model)
        callback_list.on_train_begin()
        callback_list.on_epoch_begin(0)
        callback_list.on_epoch_end(0, dict(validation_metrics))
        callback_list.on_train_end()
        return validation_metrics

    def trial_config(
        self,
        values: Mapping[str, Any],
        network: Network,
        examples: int,
        epochs: int | None = None,
        shift: float | None = None,
    ) -> Config:
        """Returns the complete Config of a trial. The searched learning rate and epochs are in its `phases`.

        Args:
            values: of the trial, by the dimension's name.
            examples: of the training split.
            epochs: replaces the searched number.
            shift: domain shift of the images, where it was measured.
        """
        config = search_space.apply_values(self.config, self.space, values)
        rate, epochs = values.get("lr"), epochs or values.get("epochs")
        if rate is None and epochs is None:
            return config
        return replace(config, phases=phase_settings.set_lr_and_epochs(config, network, examples, rate, epochs, shift))

    def objective(self, name: str) -> keras_tuner.Objective:
        """Returns a validation metric as KerasTuner's objective, with its direction.

        Raises:
            UserError: the task has no such metric.
        """
        known = {f"val_{key}": value for key, value in OBJECTIVES[self.task].items() if key in self._measures}
        if len(self.listing.classes) <= 5:
            known.pop("val_top5_accuracy", None)
        if name not in known:
            rule = f"must be one of {', '.join(known)} for {self.task}"
            if name == "val_loss":
                rule += ", as --search names loss, and each trial would be measured with its own"
            else:
                rule += did_you_mean(name, known)
            raise UserError(f"--objective: {rule}. Received: {name!r}")
        return keras_tuner.Objective(name, known[name])

    def _check(self, network: Network, epochs: int | None) -> None:
        """Builds the networks and phases at the boundaries of the search space, without reading an image."""
        phase_settings.check_searched([dimension.name for dimension in self.space], self.config, bool(epochs))
        outputs, task, count = len(self.listing.classes), self.task, max(1, self.listing.max_examples)
        built = {_graph_key(self.config): network}
        for dimension in self.space:
            for values in search_space.boundary_values(dimension, self.space):
                try:
                    config = search_space.apply_values(self.config, self.space, values)
                    key = _graph_key(config)
                    if key not in built:
                        built[key] = apply_surgeries(config, networks.build(config, outputs, task))
                    plan_checks.check(self.trial_config(values, built[key], count, epochs), built[key])
                except UserError as error:
                    shown = ", ".join(f"{name}={value}" for name, value in values.items())
                    rule = r"must have its argument \1 by name, as \1=..., so that it can be searched"
                    reason = re.sub(r"(?<=\(\) )multiple values for argument '(\w+)'", rule, str(error))
                    raise UserError(f"--search, {shown}: {reason.removeprefix('--search: ')}") from None
        built.clear()
        free_networks()

    def _shift(self, config: Config, network: Network, data: Splits) -> float | None:
        """Measures the domain shift of the images, by which `auto` plans."""
        if not planning.has_auto(config):
            return None
        if config.preprocessing == "dataset":
            networks.set_pixel_statistics(network, *head_init.pixel_statistics(data.train, network.size))
        return domain_shift.measure(network, data.train)

    def _data(self, size: int, framing: str, per_class_limit: int | None) -> Splits:
        chosen = self.framing if framing == "auto" else framing
        if framed := self._framed.pop((size, framing, per_class_limit), None):
            return framed
        config = replace(self.config, per_class_limit=per_class_limit)
        if framing != "auto":
            return audit_and_split(config, replace(self.listing, framing=framing), size, self.folder)
        # The splits are those of the audit before the choice, as in the run of the winner.
        network, resolved = self._start
        resolved = replace(resolved, framing=chosen)
        return audit_and_frame(config, self.listing, network._replace(size=size), resolved, self.folder)

    def _validation_metrics(self, network: Network, data: Splits, trained: Trained) -> dict[str, float]:
        """Computes the validation metrics, without example weights, so that they are comparable between trials."""
        # A trial that was killed after its last phase resumes without its cached inputs.
        if trained.validation_outputs:
            outputs = trained.validation_outputs()
        else:
            stream = pipeline.evaluation_stream(data.val, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
            outputs = scoring.make_predictor(network.model)(stream)
        thresholds = None
        if self.task == "multi_label":
            thresholds = metrics.fit_thresholds(scoring.apply_activation(self.task, outputs), data.val.labels)
        scorer = replace(trained.setup.scorer, labels=data.val.labels, weights=None)
        computed = metrics.compute(scorer, outputs, data.classes, thresholds)
        return {f"val_{key}": computed[key] for key in self._measures if isinstance(computed.get(key), float)}


def free_networks() -> None:
    """Frees the memory of the networks of earlier trials."""
    keras.backend.clear_session()
    gc.collect()


def _share_cache(config: Config, folder: Path) -> Config:
    """Returns the Config of all trials: without TensorBoard, and with one cache for the activations of frozen layers."""
    shared = {} if config.keep_cache else {"keep_cache": True, "cache_dir": str(folder / "cache")}
    return replace(config, tensorboard=False, **shared)


def _graph_key(config: Config) -> tuple:
    """Returns the settings that a network's graph depends on."""
    names = ("backbone", "weights", "preprocessing", "surgery", "image_size", "head", "head_init")
    return tuple(getattr(config, name) for name in names)
