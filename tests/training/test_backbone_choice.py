"""Which network of a list: what a probe on training images chooses, and what is taken where nothing can be measured."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import splits_of

from kerasft.networks import network as networks
from kerasft.networks.multiplications import multiplications
from kerasft.probes import depth_choice
from kerasft.settings.config import Config
from kerasft.storage.disk_cache import DiskCache
from kerasft.training import backbone_choice

FILES = {"multi_label": "two_digits", "regression": "angles"}


def _contenders(config, data, *files):
    built = [networks.build(replace(config, backbone=file), len(data.classes), data.task) for file in files]
    return [backbone_choice.contender(config, f, one, len(data.train)) for f, one in zip(files, built)]


def _cache(folder, size=1e9):
    return DiskCache(folder, int(size), is_shared=False)


@pytest.mark.parametrize(
    "task", ["single_label", *(pytest.param(task, marks=pytest.mark.large) for task in ("multi_label", "regression"))]
)
def test_the_network_that_sees_the_labels_is_chosen(task, request, blind, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backbone_choice, "MAX_IMAGES", 120)
    data = splits_of("digits" if task == "single_label" else f"csv:{request.getfixturevalue(FILES[task])}")
    config = Config(class_weights="none" if task == "regression" else "balanced")
    contenders = _contenders(config, data, blind, tiny)
    chosen = backbone_choice.choose(config, contenders, data, 32, _cache(tmp_path))
    assert (chosen.place, [row["choice"] for row in chosen.table]) == (1, [blind, tiny])
    keys = {"choice", "loss", "seconds", "parameters", "macs", "images_per_second"}
    assert all(set(row) - {"accuracy"} == keys for row in chosen.table)
    assert all(("accuracy" in row) == (task == "single_label") for row in chosen.table)
    counted = [multiplications(one.network.model) for one in contenders]
    assert sorted(row["macs"] for row in chosen.table) == sorted(counted)
    assert chosen.table[1]["loss"] < chosen.table[0]["loss"]
    assert chosen.reason.endswith("training images, cross-validated: the lowest loss")
    backbone_choice.say(tiny, chosen)
    lines = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("backbone: "))
    assert [line.split()[0] for line in lines[first + 1 :]] == ["backbone", "blind.keras", "tiny.keras"]


def _with_losses(monkeypatch, *losses):
    """Lets the probes of the networks, the fewest multiplications first, find these losses."""
    found = iter(losses)

    def probe(*_):
        return depth_choice.stacked_probe.Stacked(1, None, np.array(next(found)), 0.5, []), None, None

    monkeypatch.setattr(depth_choice, "probe", probe)


@pytest.mark.parametrize(
    ("losses", "place", "words"),
    [
        (([1.0, 1.2], [1.1, 1.0]), 0, "the lowest loss"),
        (([1.0, 1.1], [1.2, 1.0]), 0, "larger, and not measurably worse"),
        (([0.51, 0.5], [0.5, 0.5]), 1, "cheaper, and shown to lose little"),
        (([1.0, 1.1], [0.5, 0.5]), 0, "the lowest loss"),
        (([0.5, 0.5], [1.0, 1.1]), 1, "the lowest loss"),
        (([], []), 0, "no training image can be held out"),
    ],
)
def test_the_largest_that_is_not_worse_or_a_cheaper_one_that_loses_nothing(
    losses, place, words, blind, tiny, tmp_path, monkeypatch
):
    data, config = splits_of("digits"), Config(deterministic=True)
    contenders = _contenders(config, data, tiny, blind)
    assert [one.images_per_second for one in contenders] == [None, None]
    assert contenders[1].multiplications < contenders[0].multiplications
    _with_losses(monkeypatch, *losses)
    chosen = backbone_choice.choose(config, contenders, data, 32, _cache(tmp_path))
    assert chosen.place == place
    assert words in chosen.reason
    assert all("images_per_second" not in row for row in chosen.table)


def test_where_nothing_can_be_measured_the_first_is_taken(blind, tiny, photos, tmp_path):
    data, config = splits_of(f"folder:{photos}"), Config(deterministic=True)
    few = replace(data, train=replace(data.train, ids=data.train.ids[:20]))
    contenders = _contenders(config, data, tiny, blind)
    chosen = backbone_choice.choose(config, contenders, few, 32, _cache(tmp_path))
    assert chosen == (0, "20 training images cannot tell the networks apart (needed: 30): the first of the list", [])
    random = [one._replace(network=one.network._replace(pretrained=False)) for one in contenders]
    chosen = backbone_choice.choose(config, random, data, 32, _cache(tmp_path))
    assert chosen.reason.startswith("without pretrained weights")


def test_the_chosen_network_finds_its_features_and_its_probe_in_the_cache(tiny, tmp_path, monkeypatch):
    data, config = splits_of("digits", per_class_limit=6), Config(deterministic=True)
    contenders = _contenders(config, data, tiny)
    backbone_choice.choose(config, contenders, data, 32, _cache(tmp_path))
    monkeypatch.setattr(depth_choice.stacked_probe, "solve", lambda *_, **__: pytest.fail("solved again"))
    network = networks.build(replace(config, backbone=tiny), 10, "single_label")
    monkeypatch.setattr(
        depth_choice.feature_cache.scoring, "make_predictor", lambda model: lambda _: pytest.fail("computed again")
    )
    chosen = depth_choice.choose(config, network, data, _cache(tmp_path))
    assert len(chosen.table) == 3


def test_statistics_of_the_data_set_come_before_the_probe(tmp_path):
    data = splits_of("digits", per_class_limit=6)
    config = Config(backbone="MobileNet(alpha=0.25)", image_size=32, preprocessing="dataset", deterministic=True)
    network = networks.build(replace(config, weights="bundled"), 10, "single_label")
    contender = backbone_choice.contender(config, "MobileNet(alpha=0.25)", network, 60)
    chosen = backbone_choice.choose(config, [contender], data, 32, _cache(tmp_path))
    assert np.isfinite(chosen.table[0]["loss"])
