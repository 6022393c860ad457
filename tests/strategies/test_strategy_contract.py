"""What every strategy keeps to: what moves, what it says of itself, that it learns, and that it resumes."""

import inspect
import json
import re
import sys
from dataclasses import fields, replace

import keras
import numpy as np
import pytest
from conftest import ROOT, splits_of
from training_runs import begun, easy, same, trained

from kerasft.networks import network as networks
from kerasft.settings import config as configs
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import STRATEGIES, Phase, planning
from kerasft.strategies.variables import copy_back
from kerasft.training import checkpointer, fitting

# A value that is not the default of each argument that a strategy may take, as `--phases` takes it.
ARGUMENTS = {
    "stop_if_losing": "True",
    "unfreeze": "0.25",
    "epochs": "7",
    "lr": "0.002",
    "batch_norm": "'train'",
    "optimizer": "sgd(momentum=0.9)",
    "schedule": "step(at=(0.5, 0.75))",
    "loss": "focal(gamma=2.0)",
    "augment": "crop(area=(0.35, 1)) | flip",
    "views": "3",
    "image_size": "64",
    "conditional": "True",
    "head_lr": "10.0",
    "layer_decay": "0.75",
    "l2sp": "0.01",
    "sam": "0.05",
    "agc": "0.02",
    "stages": "3",
    "stage": "2",
    "blocks": "2",
    "layers": "conv_3 | conv_1",
    "reduction": "2.0",
    "rank": "4",
    "alpha": "4.0",
}
# Arguments of the phases that these tests train, beside epochs and lr.
GIVEN = {"top": {"unfreeze": "conv_3"}, "gradual": {"stages": 2, "stage": 1}, "surgical": {"layers": "conv_2"}}
GIVEN["lora"] = {"rank": 2}
# What the killed run of a strategy bears beside.
ATTRIBUTES = {
    "top": {"head_lr": 10, "layer_decay": 0.75, "l2sp": 0.01, "sam": 0.05, "agc": 0.02},
    "surgical": {"layers": None},
}
# The last part of the paths of what they train in the tiny backbone: as a regular expression, and nothing else of it.
TRAINS = {
    "head": "nothing",
    "top": "conv_[34]/kernel",
    "all": "conv_[1-4]/kernel",
    "gradual": "conv_[34]/kernel",
    "bias": "bn_[1-4]/beta",
    "norm": "bn_[1-4]/(beta|gamma)",
    "surgical": "conv_2/kernel",
    "lora": "conv_[1-4]/kernel",
    "quantised": "conv_[1-4]/kernel|bn_[1-4]/(beta|gamma)",
    "adapter": "kerasft_adapter_0[0-3]_(down|up)/(kernel|bias)",
}


def _phases(name: str, **given) -> tuple[Phase, ...]:
    """What a strategy gives."""
    found = STRATEGIES[name](**given)
    return found if isinstance(found, tuple) else (found,)


@pytest.fixture
def data(photos):
    return splits_of(f"folder:{photos}", val=0.2, test=0.2)


def _run(data, tiny, folder, name):
    """One of a strategy's phases on tiny data, before its first step."""
    config = Config(backbone=tiny, batch_size=8, head_init="glorot_uniform", tensorboard=False, augment="none")
    keras.utils.set_random_seed(0)
    (first, *_) = _phases(name, epochs=3, lr=1e-2, **GIVEN.get(name, {}))
    config = replace(config, phases=str(first))
    network = planning.prepare(config, networks.build(config, 2, "single_label"))
    (phase,) = planning.plan(config, network, 30)[0]
    return begun(network, data, folder, phase, config)


def test_every_argument_is_known_here():
    for build in STRATEGIES.values():
        assert set(inspect.signature(build).parameters) <= set(ARGUMENTS)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_phase_is_frozen_and_bears_the_name_that_phases_gives_it(name):
    for phase in _phases(name):
        assert isinstance(phase, Phase)
        assert phase.strategy == name
        with pytest.raises(AttributeError):
            phase.lr = 1.0


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_argument_is_read_back_from_what_a_phase_says(name):
    taken = list(inspect.signature(STRATEGIES[name]).parameters)
    # One phase alone.
    base = {"epochs": "5"} | ({"stages": "4", "stage": "1"} if "stage" in taken else {})
    base |= {"blocks": "3"} if "blocks" in taken else {}
    plain = planning.parse(f"{name}({', '.join(f'{key}={value}' for key, value in base.items())})")
    assert planning.parse(str(plain)) == plain
    for argument in taken:
        given = base | {argument: ARGUMENTS[argument]}
        phase = planning.parse(f"{name}({', '.join(f'{key}={value}' for key, value in given.items())})")
        assert phase != plain, argument
        assert planning.parse(str(phase)) == phase, argument
    whole = planning.parse(f"{name}({', '.join(f'{argument}={ARGUMENTS[argument]}' for argument in taken)})")
    assert planning.parse(str(whole)) == whole


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_right_variables_move_and_only_those_and_the_loss_falls(name, tiny, tmp_path):
    run = _run(easy(tmp_path / "set"), tiny, tmp_path, name)
    model = run.setup.network.model
    expected = {weight.path for weight in model.weights if re.fullmatch(f"logits/.*|{TRAINS[name]}", weight.path)}
    before = {weight.path: np.asarray(weight) for weight in model.weights}
    run.state.initial_score = run.validate()
    first_loss = run.state.initial_score[0]
    fitting.fit(run)
    run.model.set_weights(run.candidates()[0])
    copy_back(run.network, run.setup.network, run.phase)
    assert [weight.path for weight in model.weights] == list(before)
    moved = {weight.path for weight in model.weights if np.asarray(weight).tobytes() != before[weight.path].tobytes()}
    assert moved == expected
    assert run.state.epoch == 3
    losses = [first_loss, *run.state.losses]
    assert min(losses[1:]) < losses[0]
    rows = [json.loads(row) for row in run.history.path.read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]


# What `gradual` and `norm` resume is what `top` and `bias` do.
KILLED = [pytest.param(name, marks=pytest.mark.large) if name in ("gradual", "norm") else name for name in STRATEGIES]


# A module of somebody's own strategies, whose phases no strategy of kerasft gives.
FOREIGN = """
from kerasft.strategies.phase import Phase
from kerasft.strategies.surgical import surgical

def late(epochs: int = 1) -> Phase:
    # Its own meaning of epochs.
    return Phase(strategy="top", unfreeze="conv_3", epochs=2 * epochs, lr=1e-2, alphas=(1.0,))

def offsets() -> Phase:
    return Phase(strategy="offsets", unfreeze=1.0, epochs=2, lr=1e-2, variables="bias")

def both() -> Phase:
    return late(), Phase(strategy="all", unfreeze="conv_2", epochs=None, lr=1e-2, arguments={"depth": [1, {"a": 2}]})

def known() -> Phase:
    return surgical(blocks=2, epochs=2, lr=1e-2)

def measured() -> Phase:
    return Phase(strategy="mine", unfreeze=None, epochs=2, lr=1e-2, arguments={"blocks": 2})
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "foreign_strategies.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield "foreign_strategies"
    sys.modules.pop("foreign_strategies", None)


def test_a_phase_of_a_foreign_strategy_is_read_back_as_it_is(foreign):
    for text in ("late", "late(epochs=3)", "offsets", "both", "known", "measured"):
        found = planning.build(specs.parse_one(f"{foreign}.{text}", "--phases"), "--phases", outside=Phase)
        for phase in found:
            for changed in (phase, replace(phase, epochs=7, augment=(), optimizer=specs.parse_one("adamw", ""))):
                assert planning.parse(str(changed)) == changed
                assert (changed.origin is None) == (text == "known")
    last = planning.with_blocks(phase, ("conv_1", "conv_3"))
    assert planning.parse(str(last)) == last
    assert last.unfreeze == ("conv_1", "conv_3")


@pytest.mark.parametrize("alphas", [(), (0.5, 0.0), (1.1,), (True,), 0.5, ("1",)])
def test_fractions_to_keep_are_in_their_range(alphas):
    with pytest.raises(ValueError, match=r"alphas must be a tuple of numbers in \(0, 1\]"):
        Phase(strategy="mine", unfreeze=1.0, epochs=2, lr=1e-2, alphas=alphas)
    assert Phase(strategy="mine", unfreeze=1.0, epochs=2, lr=1e-2, alphas=[0.9, 1]).alphas == (0.9, 1.0)


def test_a_run_goes_on_with_no_code_that_its_flags_do_not_name(foreign):
    config = Config(phases=f"{foreign}.late", allow_imports=(foreign,))
    (phase,) = planning.build(config.spec("phases"), "--phases", outside=Phase)
    assert planning.resumed(config, [str(phase)]) == [phase]
    with pytest.raises(
        UserError, match=r"--phases: the run was begun with 'foreign_strategies.late'.* Received: 'head'"
    ):
        planning.resumed(Config(phases="head"), [str(phase)])


def test_a_foreign_strategy_that_gives_fewer_phases_than_before_is_told(foreign):
    with pytest.raises(UserError, match=r"foreign_strategies.late does not give as many phases as when the run began"):
        planning.parse(f"changed({foreign}.late, 1)")


@pytest.mark.parametrize("text", ["late", pytest.param("offsets", marks=pytest.mark.large), "measured"])
def test_a_killed_run_of_a_foreign_strategy_goes_on_to_the_same_weights(
    text, foreign, data, tiny, tmp_path, monkeypatch
):
    settings = {"phases": f"{foreign}.{text}", "allow_imports": (foreign,), "augment": "flip"}
    _killed_and_whole(data, tiny, tmp_path, monkeypatch, settings)


@pytest.mark.parametrize("name", KILLED)
def test_a_run_that_is_killed_goes_on_to_the_same_weights(name, data, tiny, tmp_path, monkeypatch):
    phases = str(_phases(name, epochs=2, lr=1e-2, **{**GIVEN.get(name, {}), **ATTRIBUTES.get(name, {})})[0])
    settings = {"phases": phases, "augment": "flip", "head": "linear(dropout=0.2)"}
    # The factors of an update are averaged like any other weights.
    settings |= {"average": "ema(momentum=0.9)"} if name == "lora" else {}
    _killed_and_whole(data, tiny, tmp_path, monkeypatch, settings)


def _killed_and_whole(data, tiny, tmp_path, monkeypatch, settings):
    """Fails where a run that is killed in its fifth step, and goes on, ends with other weights than one that is not."""
    monkeypatch.setattr(checkpointer, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 1)
    whole = trained(data, tmp_path / "whole", tiny, **settings)
    fit = keras.Model.fit

    class Kill(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == 5:
                raise KeyboardInterrupt

    def killed(self, *given, callbacks, **more):
        return fit(self, *given, callbacks=[*callbacks, Kill()], **more)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(data, tmp_path / "cut", tiny, **settings)
    rest = trained(data, tmp_path / "cut", tiny, **settings)
    same(rest.weights, whole.weights)


def test_the_help_of_phases_and_the_page_name_every_strategy_and_attribute():
    page = (ROOT / "docs" / "strategies.md").read_text()
    attributes = {item.name for item in fields(Phase) if "check" in item.metadata}
    for name in {*STRATEGIES, *attributes}:
        assert re.search(rf"\b{name}\b", configs.FIELDS["phases"].metadata["help"]), name
        assert re.search(rf"`{name}[`(=]", page), name
