"""Training for the tests: a whole run through the front door, or one phase at its start."""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from conftest import splits_of
from PIL import Image

from kerasft.data.representative_images import calibration_images
from kerasft.data.splits import Split, Splits
from kerasft.networks import network as networks
from kerasft.networks.apply_surgeries import apply_surgeries
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.storage import resolved_settings
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.storage.run_folder import History
from kerasft.strategies import freezing, planning, variables
from kerasft.strategies.budget import Allowance
from kerasft.strategies.phase import Phase
from kerasft.training import fitting, phase_inputs, train_setup, trainer
from kerasft.training.checkpointer import Checkpointer
from kerasft.training.phase_record import PhaseRecord
from kerasft.training.phase_run import PhaseRun
from kerasft.training.train_state import TrainState
from kerasft.training.trainer import Trained

SMALL = {"batch_size": 8, "head_init": "glorot_uniform", "tensorboard": False}


@dataclass
class Finished:
    """A run that has ended: its network, what `trainer.train` gave, and the rows of `history.jsonl`."""

    network: Network
    trained: Trained
    rows: list[dict]

    @property
    def records(self) -> list[PhaseRecord]:
        return self.trained.state.records

    @property
    def weights(self) -> list[np.ndarray]:
        return self.network.model.get_weights()

    @property
    def steps_per_epoch(self) -> int:
        return self.trained.setup.steps_per_epoch


def trained(data: Splits, folder: Path, backbone: str, allowance: Allowance | None = None, **settings) -> Finished:
    """Trains a network on these splits, or goes on with the run in the folder. The seed is always the same."""
    keras.utils.set_random_seed(0)
    folder.mkdir(exist_ok=True)
    config = Config(**{"backbone": backbone, **SMALL, **settings})
    network = apply_surgeries(config, networks.build(config, len(data.classes), data.task))
    network = planning.prepare(config, network)
    # A run that goes on takes what it began with, as the job does.
    resolved = resolved_settings.read(folder) or ResolvedSettings("none", network.size, "float32", "")
    result = trainer.train(config, network, data, folder, resolved, allowance)
    rows = [json.loads(row) for row in (folder / "history.jsonl").read_text().splitlines()]
    return Finished(result.setup.network, result, rows)


def begun(network: Network, data: Splits, folder: Path, phase: Phase, config: Config) -> PhaseRun:
    """A phase that is fed with images, before its first step."""
    trained = variables.phase_network(network, phase)
    freezing.apply(trained, phase)
    variables.measure(trained, network, phase, lambda: calibration_images(data.train, network.size))
    inputs = phase_inputs.images(trained, data, phase, config.seed)
    weights = inputs.model.get_weights()
    resolved = ResolvedSettings("none", network.size, "float32", "", augment="none", batch_size=8, jit="off")
    return PhaseRun(
        setup=train_setup.prepare(config, network, data, folder),
        network=trained,
        phase=phase,
        name=f"01-{phase.strategy}",
        first_epoch=0,
        inputs=inputs,
        state=TrainState("r", data.digest, resolved),
        checkpointer=Checkpointer(folder, network.model),
        history=History(folder / "history.jsonl", 0),
        initial=weights,
        best=weights,
    )


def vectors(folder: Path, **settings) -> PhaseRun:
    """A phase on vectors dressed as images, whose logits are what the pixels say times the kernel."""
    inputs = keras.Input((1, 1, 3))
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(inputs))
    network = Network(keras.Model(inputs, logits), "bare", "single_label", 1, True, "zeros", (), ())
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400).astype(np.int32)
    noisy = np.where(rng.random(400) < 0.2, rng.integers(0, 3, 400), labels)
    images = (np.eye(3, dtype=np.uint8)[noisy]).reshape(-1, 1, 1, 3)
    split = Split(np.arange(400).astype(str), labels, lambda i: b"", lambda rows: images[rows])
    data = Splits("bare", "single_label", split, split, split, ("a", "b", "c"), (), "0")
    phase = Phase(strategy="all", unfreeze=1.0, epochs=1, lr=1e-3, augment=())
    return begun(network, data, folder, phase, Config(**settings))


def easy(root: Path) -> Splits:
    """Dark and bright images, 40 of each: whatever looks at them tells them apart."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 150)):
        (root / name).mkdir(parents=True)
        for index in range(40):
            noise = rng.integers(low, low + 100, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / name / f"{index}.png")
    return splits_of(f"folder:{root}", val=0.3, test=0.2)


def watched(monkeypatch) -> list[PhaseRun]:
    """The phases that are fitted from now on, as they begin."""
    runs, fit = [], fitting.fit

    def noted(run, *states):
        runs.append(run)
        return fit(run, *states)

    monkeypatch.setattr(fitting, "fit", noted)
    return runs


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Fails where two lists of weights are not equal to the bit."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
