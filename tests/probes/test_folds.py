"""Folds of training examples: groups are held out together, every model knows all classes, and who chooses by folds hands the groups on."""

import numpy as np
import pytest
from conftest import splits_of

from kerasft.evaluation import scoring
from kerasft.networks import network as networks
from kerasft.probes import depth_choice, folds, framing_choice, held_out, linear_probe, probe_findings
from kerasft.settings.config import Config
from kerasft.storage.disk_cache import DiskCache
from kerasft.training import head_init


def _parted(groups, pairs) -> bool:
    return any(set(groups[fitted]) & set(groups[held]) for fitted, held in pairs)


@pytest.mark.parametrize("seed", range(5))
def test_no_fold_parts_a_group_and_each_model_knows_all_classes(seed):
    rng = np.random.default_rng(seed)
    # Patients of one class each, of very different sizes; class 2 has two of them, class 3 a single one.
    groups = rng.choice(24, 200, p=rng.dirichlet(np.ones(24)))
    labels = np.select([groups >= 23, groups >= 21, groups >= 10], [3, 2, 1], 0)
    labels[groups == 0] = rng.integers(0, 2, (groups == 0).sum())
    _, labels = np.unique(labels, return_inverse=True)
    pairs = folds.stratified(labels, np.arange(200), seed, groups)
    held = np.concatenate([held for _, held in pairs])
    assert len(held) == len(set(held)) > 100
    assert not _parted(groups, pairs)
    for fitted, held in pairs:
        assert set(labels[fitted]) == set(labels)
        assert len(held) and sorted([*fitted, *held]) == list(range(200))
    pairs = folds.plain(200, seed, groups)
    assert not _parted(groups, pairs) and len(pairs) == folds.FOLDS
    assert sorted(np.concatenate([held for _, held in pairs])) == list(range(200))
    parts = folds.partition(200, seed, groups)
    assert sorted(np.concatenate(parts)) == list(range(200))
    assert sum(len(set(groups[part])) for part in parts) == len(set(groups))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [5_000, 60])
def test_each_model_knows_all_labels(seed, most, monkeypatch):
    monkeypatch.setattr(folds, "MAX_CV_EXAMPLES", most)
    rng = np.random.default_rng(seed)
    # A common label, one of a single positive, one of two, one that all but one have.
    labels = (rng.random((200, 5)) < 0.4).astype(np.float32)
    labels[:, 1:4], labels[:, 4] = 0, 1
    labels[rng.integers(200), 1] = labels[rng.permutation(200)[:2], 2] = labels[rng.permutation(200)[:3], 3] = 1
    labels[rng.integers(200), 4] = 0
    for groups in (None, rng.integers(0, 40, 200)):
        pairs = folds.multi_label(labels, seed, groups)
        assert len(pairs) == (folds.FOLDS if most > 200 else 1)
        for fitted, held in pairs:
            assert len(held) and not set(fitted) & set(held)
            assert (labels[fitted].min(0) == 0).all() and (labels[fitted].max(0) == 1).all()
            taken = labels[[*fitted, *held]]
            np.testing.assert_array_equal(
                taken.sum(0)[1:4], [1, 2, labels[:, 3].sum() if most > 200 else taken.sum(0)[3]]
            )
            assert taken.sum(0)[3] >= 2
        assert groups is None or not _parted(groups, pairs)
        held = np.concatenate([held for _, held in pairs])
        assert len(held) == len(set(held)) >= (100 if most > 200 else 6)


def test_what_alone_has_its_label_cannot_be_held_out():
    assert folds.multi_label(np.eye(20), 0) == []
    # All of a group's images have a label that no other has.
    assert folds.multi_label(np.eye(4)[np.arange(20) % 4], 0, np.arange(20) % 4) == []


def test_a_large_sample_keeps_groups_together_too(monkeypatch):
    monkeypatch.setattr(folds, "MAX_CV_EXAMPLES", 60)
    groups, labels = np.arange(200) // 4, np.arange(200) % 3
    (pair,) = folds.plain(200, 0, groups)
    assert not _parted(groups, [pair]) and sum(map(len, pair)) == 60
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    problem = linear_probe.pose(features, labels, "single_label", 0, None, groups=groups)
    assert len(problem.folds) == 1 and not _parted(groups, problem.folds)
    assert np.isfinite(held_out.predict(features, labels, 3, "single_label", 0, groups)).all()


def test_where_no_group_can_be_held_out():
    labels = np.arange(20) % 2
    assert folds.stratified(labels, np.arange(20), 0, np.zeros(20, int)) == []
    assert folds.plain(20, 0, np.zeros(20, int)) == []
    # Each class is one group: a model without it would not know it.
    assert folds.stratified(labels, np.arange(20), 0, labels) == []
    # Class 1 is in one group alone, so that one is always fitted.
    groups = np.where(labels == 1, 5, np.arange(20) % 4)
    held = np.concatenate([held for _, held in folds.stratified(labels, np.arange(20), 0, groups)])
    assert sorted(held) == np.flatnonzero(labels == 0).tolist()


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_a_probe_that_knows_a_group_by_heart_is_not_believed(task):
    """Labels are those of the group by chance, and the images of a group are alike: they tell nothing of other groups."""
    rng = np.random.default_rng(0)
    groups = np.arange(240) // 12
    label = rng.permutation(20) % 2
    features = (rng.normal(size=(20, 40))[groups] + 0.1 * rng.normal(size=(240, 40))).astype(np.float32)
    labels, outputs = label[groups].astype(np.int32), 2
    if task != "single_label":
        labels, outputs = label[groups, None].astype(np.float32), 1
    given = features, labels, outputs, task, 0
    believed, _ = linear_probe.cross_validate(*given)
    found, _ = linear_probe.cross_validate(*given, groups=groups)
    assert believed.losses.mean() < 0.05
    # As good as an answer that does not look: log 2, or the variance.
    assert found.losses.mean() > 0.6
    assert found.alpha > 10 * believed.alpha


def test_who_chooses_by_folds_keeps_groups_together(photos, tiny, tmp_path, monkeypatch):
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2, group_pattern=r"(\d)\.jpg")
    config = Config(backbone=tiny, features="last", phases="head")
    network = networks.build(config, 2, "single_label")
    cache, seen, pose = DiskCache(tmp_path, int(1e9), is_shared=False), [], linear_probe.pose

    def noted(*given, **named):
        problem = pose(*given, **named)
        seen.append(problem)
        return problem

    monkeypatch.setattr(linear_probe, "pose", noted)
    framing_choice.choose(config, network, data, cache)
    depth_choice.probe(config, network, data, cache)
    head_init.prepare(config, network, data, scoring.Scorer("single_label", data.val.labels), cache)
    probe_findings.examine(network, data.train, data.classes, 0, cache)
    # Three framings, the stack of depths, the probe and the suspects.
    assert len(seen) == 6
    assert len(set(data.train.groups)) < len(data.train) / 2
    for problem in seen:
        assert problem.folds and not _parted(data.train.groups, problem.folds)
