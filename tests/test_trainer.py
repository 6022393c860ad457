"""What a phase leaves behind: its weights, a mix, or nothing of it."""

import json

import keras
import numpy as np
import pytest

from kerasft import epochs, model, phases, selection
from kerasft.config import Config
from kerasft.data import sources, splits
from kerasft.data.audit import audit
from kerasft.standing import Standing
from kerasft.trainer import Trainer


@pytest.fixture
def ready(tmp_path):
    """A Trainer on vectors dressed as pictures, whose logits are what the pixels say times the kernel."""
    inputs = keras.Input((1, 1, 3))
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(inputs))
    network = model.Network(keras.Model(inputs, logits), "bare", "single_label", 1, True, "zeros", (), ())
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400).astype(np.int32)
    noisy = np.where(rng.random(400) < 0.2, rng.integers(0, 3, 400), labels)
    pictures = (np.eye(3, dtype=np.uint8)[noisy]).reshape(-1, 1, 1, 3)
    split = splits.Split(np.arange(400).astype(str), labels, lambda i: b"", lambda rows: pictures[rows])
    data = splits.Splits("bare", "single_label", split, split, split, ("a", "b", "c"), (), "0")
    made = Trainer(Config(), network, data, tmp_path)
    made.standing = Standing("r", "0", {"augment": "none", "speed": None})
    return made


def _weights(scale):
    return [np.eye(3, dtype=np.float32) * scale, np.zeros(3, np.float32)]


def _judge(ready, first, last):
    ready.model.set_weights(first)
    ready.standing.before, ready.first_weights = ready.validate(), first
    ready.model.set_weights(last)
    ready.standing.best = None
    ready.offer(ready.validate())
    return ready._keep(selection.SHARES)


def test_what_does_not_help_is_undone_to_the_bit(ready):
    first = _weights(2.0)
    share, heat, score = _judge(ready, first, [-weight for weight in _weights(3.0)])
    assert (share, heat) == (0.0, 1.0)
    assert score == ready.standing.before
    for ours, theirs in zip(ready.model.get_weights(), first):
        np.testing.assert_array_equal(ours, theirs)


def test_what_helps_is_kept(ready):
    share, _, score = _judge(ready, _weights(-1.0), _weights(2.5))
    assert share >= 0.5
    assert score[0] < 0.7
    assert ready.validate()[0] == pytest.approx(score[0], rel=1e-5)


def test_overconfidence_is_tempered(ready):
    share, heat, score = _judge(ready, _weights(-40.0), _weights(40.0))
    assert share > 0.5
    assert heat > 4
    assert score[0] < 1
    assert ready.validate()[0] == pytest.approx(score[0], rel=1e-5)


def test_between_equals_the_most_cautious_mix_is_taken(ready):
    better = _weights(2.5)
    share, _, _ = _judge(ready, [np.roll(better[0], 1, 0) * 0.01, better[1]], better)
    alike = _judge(ready, _weights(2.5), [better[0] + np.float32(1e-3) * np.eye(3, dtype=np.float32), better[1]])
    assert share > alike[0]


def test_a_better_temperature_alone_is_no_merit(ready):
    """The phase only scales the logits towards their best temperature: nothing that tempering could not do."""
    share, heat, score = _judge(ready, _weights(12.0), _weights(6.0))
    assert (share, heat) == (0.0, 1.0)
    assert score == ready.standing.before


def test_nothing_finite_is_nothing_kept(ready):
    first = _weights(1.0)
    share, _, _ = _judge(ready, first, [weight * np.nan for weight in _weights(1.0)])
    assert share == 0
    np.testing.assert_array_equal(ready.model.get_weights()[0], first[0])


def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_weights(photos, tmp_path, monkeypatch):
    """Saved at every step, broken off after some: the rest alone is run, and the weights are the same."""
    monkeypatch.setattr(epochs, "SAVE_SECONDS", -1.0)
    config = Config(
        backbone="MobileNet(alpha=0.25)",
        weights="none",
        image_size=32,
        batch_size=8,
        head="linear(dropout=0.3)",
        augment="flip | color",
        phases="head(epochs=1, lr=1e-2) | all(epochs=3, lr=1e-3, batch_norm='train')",
        tensorboard=False,
    )
    listing, pictures = audit(sources.load(Config(data=f"folder:{photos}")), 32, lambda count: None)
    data = splits.carve(listing, pictures, 0.2, 0.2, 0)
    steps = []

    class Counts(keras.callbacks.Callback):
        def __init__(self, limit):
            super().__init__()
            self.limit = limit

        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            if len(steps) == self.limit:
                raise KeyboardInterrupt

    def go(folder, limit=None):
        keras.utils.set_random_seed(0)
        folder.mkdir(exist_ok=True)
        made = Trainer(config, model.build(config, 2, "single_label"), data, folder)
        fit = made.model.fit
        counts = Counts(limit)
        monkeypatch.setattr(made.model, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, counts], **k))
        made.train()
        return made

    whole = go(tmp_path / "whole")
    total = len(steps)
    assert total == 4 * whole.steps
    whole_history = (tmp_path / "whole" / "history.jsonl").read_text().splitlines()
    for stop in (2, 8):  # in the head phase, and in the second epoch of the other
        folder = tmp_path / str(stop)
        steps.clear()
        with pytest.raises(KeyboardInterrupt):
            go(folder, limit=stop)
        steps.clear()
        rest = go(folder)
        assert len(steps) == total - stop  # nothing is done twice
        for ours, theirs in zip(rest.model.get_weights(), whole.model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        history = (folder / "history.jsonl").read_text().splitlines()
        assert [json.loads(row)["step"] for row in history] == [json.loads(row)["step"] for row in whole_history]


def test_phases_of_the_plan_hold_only_known_kinds():
    assert set(phases.__all__) == {"head", "top", "all"}
