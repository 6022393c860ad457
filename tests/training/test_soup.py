"""The greedy soup: which epochs are kept, which become part of it, and what a run leaves of it."""

import json

import keras
import numpy as np
import pytest
from conftest import splits_of
from training_runs import same, trained, watched

from kerasft.networks import layer_names
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder
from kerasft.training import soup, weight_interpolation


def _kept(folder, losses):
    """Ingredients of one number each, the number of their epoch, written one after the other."""
    for epoch in range(1, len(losses) + 1):
        soup.keep_best(folder, losses[:epoch], [np.full((2, 2), epoch, np.float32), np.ones(1, np.float32)])
    return sorted(int(path.stem) for path in folder.glob("*.npz"))


def test_only_the_best_epochs_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(soup, "SOUP_INGREDIENTS", 3)
    assert _kept(tmp_path, [5.0, 3.0, float("nan"), 4.0, 1.0, 2.0]) == [2, 5, 6]
    assert soup.ranked([5.0, 3.0, float("nan"), 4.0, 1.0, 2.0]) == [5, 6, 2]


@pytest.mark.parametrize(
    ("wanted", "members"),
    # Epochs are tried in the order 3, 2, 4, 1: their mean has to come as near to what is wanted as it was before.
    [(3.0, [3]), (2.4, [3, 2]), (2.0, [3, 2, 1]), (9.0, [3, 4]), (2.75, [3, 2, 4, 1])],
)
def test_an_epoch_is_added_where_validation_does_not_get_worse(tmp_path, wanted, members):
    losses = [0.4, 0.2, 0.1, 0.3]
    _kept(tmp_path, losses)
    weights, found = soup.greedy(
        soup.epoch_ingredients(tmp_path, losses), lambda mixed: abs(float(mixed[0][0, 0]) - wanted)
    )
    assert found == [f"epoch {member}" for member in members]
    assert weights[0].dtype == np.float32
    np.testing.assert_allclose(weights[0], np.mean(members), rtol=1e-6)


def test_an_ingredient_that_cannot_be_read_is_left_out(tmp_path):
    _kept(tmp_path, [0.3, 0.1, 0.2])
    (tmp_path / "0002.npz").write_bytes(b"no file of numpy")
    (tmp_path / "0003.npz").unlink()
    weights, members = soup.greedy(soup.epoch_ingredients(tmp_path, [0.3, 0.1, 0.2]), lambda mixed: 0.0)
    assert members == ["epoch 1"]
    np.testing.assert_array_equal(weights[0], np.ones((2, 2)))
    assert soup.greedy(soup.epoch_ingredients(tmp_path / "nothing", [0.3]), lambda mixed: 0.0) is None
    assert soup.greedy(soup.epoch_ingredients(tmp_path, [float("nan")]), lambda mixed: 0.0) is None


def test_a_run_leaves_the_mean_of_its_epochs(photos, tiny, tmp_path, monkeypatch, capsys):
    """No soup is made worse by an epoch here, so it holds all three; each is what the moving average was after it."""
    runs, seen, found = watched(monkeypatch), [], []
    keep, keep_best = soup.keep_best, weight_interpolation.keep_best
    monkeypatch.setattr(soup, "keep_best", lambda *given: seen.append(given[2]) or keep(*given))
    monkeypatch.setattr(soup, "greedy", lambda given, _, greedy=soup.greedy: greedy(given, lambda _: 0.0))
    monkeypatch.setattr(
        weight_interpolation, "keep_best", lambda *given, **also: found.extend(given[4]) or keep_best(*given, **also)
    )
    settings = {"phases": "all(epochs=3, lr=1e-2, schedule=constant)", "augment": "none", "average": "ema | soup"}
    trained(splits_of(f"folder:{photos}", val=0.2, test=0.2), tmp_path, tiny, **settings)
    order = soup.ranked(runs[0].state.losses)
    assert f"01-all: soup of 3 of 3: {', '.join(f'epoch {epoch}' for epoch in order)}" in capsys.readouterr().out
    (made,) = found
    for weight, *epochs in zip(made, *seen, strict=True):
        np.testing.assert_allclose(weight, np.mean(epochs, 0, dtype=np.float64), rtol=1e-5, atol=1e-6)
    same([runs[0].last[0]], [seen[-1][0]])
    assert not (tmp_path / "soup").exists()


def _finished(data, folder, backbone, **settings):
    """A run of three epochs on all layers, with what `soup(runs=)` reads of it."""
    phases = "all(epochs=3, lr=1e-2, schedule=constant)"
    run = trained(data, folder, backbone, **{"phases": phases, "augment": "none", "patience": 3, **settings})
    settled = json.loads((folder / "settled.json").read_text())
    run_folder.write_json(folder / "metrics.json", {"data_digest": data.digest, "settled": settled})
    return run


@pytest.mark.parametrize("helps", [True, pytest.param(False, marks=pytest.mark.large)])
def test_a_run_may_become_part_of_the_soup_of_another(photos, tiny, tmp_path, monkeypatch, capsys, helps):
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    other = _finished(data, tmp_path / "other", tiny, optimizer="sgd")
    own, found, keep_best = [], [], weight_interpolation.keep_best
    monkeypatch.setattr(
        weight_interpolation, "keep_best", lambda *given, **also: found.extend(given[4]) or keep_best(*given, **also)
    )

    def judged(ingredients, _, greedy=soup.greedy):
        """The soup where the other run alone helps, or the best epoch alone."""
        own.extend(ingredients)
        wanted = other.weights if helps else ingredients[0].read()
        return greedy(ingredients, lambda mixed: float(sum(abs(a - b).sum() for a, b in zip(mixed, wanted))))

    monkeypatch.setattr(soup, "greedy", judged)
    name = str(tmp_path / "other")
    _finished(data, tmp_path / "new", tiny, average=f"soup(runs='{name}')")
    assert [one.name for one in own][3:] == [name]
    same(own[3].read(), other.weights)
    (made,) = found
    members = capsys.readouterr().out.partition("soup of")[2].splitlines()[0]
    assert (name in members) == helps
    assert helps or len(made) == len(other.weights)


def test_the_runs_of_a_soup_are_checked(photos, tiny, tmp_path):
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    with pytest.raises(UserError, match="must name folders of finished runs"):
        soup.check_runs(("nothing",))
    run = _finished(data, tmp_path / "other", tiny)
    soup.check_runs((str(tmp_path / "other"),))
    elsewhere = splits_of(f"folder:{photos}", val=0.3, test=0.2)
    with pytest.raises(UserError, match="needs runs on the same images and splits"):
        _finished(elsewhere, tmp_path / "new", tiny, average=f"soup(runs='{tmp_path / 'other'}')")
    standardise = run.network.model.get_layer(layer_names.STANDARDISE)
    before = np.asarray(standardise.mean)
    same(run.weights, soup.read_run(str(tmp_path / "other"), run.network))
    np.testing.assert_array_equal(standardise.mean, before)
    standardise.adapt_mean.assign(standardise.adapt_mean + 1)
    with pytest.raises(UserError, match="the statistics that it scales pixels or features by are others"):
        soup.read_run(str(tmp_path / "other"), run.network)
    inputs = keras.Input((32, 32, 3))
    narrow = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Conv2D(3, 1)(inputs)))
    with pytest.raises(UserError, match="needs runs of the same backbone"):
        soup.read_run(str(tmp_path / "other"), run.network._replace(model=narrow))


def test_a_run_of_another_network_is_refused_before_training(photos, tiny, tmp_path, monkeypatch):
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    _finished(data, tmp_path / "other", tiny)
    fitted = watched(monkeypatch)
    with pytest.raises(UserError, match="needs runs of the same backbone"):
        _finished(data, tmp_path / "new", tiny, head="mlp", average=f"soup(runs='{tmp_path / 'other'}')")
    assert not fitted
    # Weights of the same shapes in another function.
    settled = json.loads((tmp_path / "other" / "settled.json").read_text())
    soup.check_run(str(tmp_path / "other"), data.digest, settled, "linear")
    with pytest.raises(UserError, match="surgeries; surgery differ"):
        soup.check_run(
            str(tmp_path / "other"),
            data.digest,
            settled | {"surgery": [{"surgery": "activation(relu=tanh)"}]},
            "linear",
        )


def test_a_run_with_another_head_of_the_same_shapes_is_refused(tmp_path):
    run_folder.write_json(tmp_path / "metrics.json", {"data_digest": "d", "settled": {}})
    run_folder.write_json(tmp_path / "config.json", {"head": "mlp(units=(64,), dropout=0.5)"})
    soup.check_run(str(tmp_path), "d", {}, "mlp(units=(64,), activation=gelu, hidden_init=he_normal)")
    soup.check_run(str(tmp_path), "d", {}, "MLP(units=[64], activation=gelu)")
    with pytest.raises(
        UserError, match=r"; its head is mlp\(.*\), and here it is mlp\(units=\(64,\), activation=relu\)"
    ):
        soup.check_run(str(tmp_path), "d", {}, "mlp(units=(64,), activation=relu)")


def test_what_is_no_number_is_left_out():
    def ingredient(name, loss):
        return soup.Ingredient(name, loss, lambda: [np.full(2, loss, np.float32)])

    given = [ingredient("run", float("nan")), ingredient("epoch 1", 0.3), ingredient("epoch 2", 0.2)]
    _, members = soup.greedy(given, lambda mixed: float(mixed[0][0]))
    assert members == ["epoch 2"]
    assert soup.greedy(given[:1], lambda mixed: float("nan")) is None
