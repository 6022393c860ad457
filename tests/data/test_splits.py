"""Splits: stratified, seeded, without overlap, for labels of every form."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import splits_of

from kerasft.data import splits
from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.settings.errors import UserError


def _ids(split):
    return set(split.ids.tolist())


def test_classes_only_are_split_stratified_seeded_and_without_overlap(photos):
    first, again, other = (splits_of(f"folder:{photos}", seed) for seed in (0, 0, 1))
    assert first.counts() == {part: {"disc": n, "square": n} for part, n in (("train", 14), ("val", 4), ("test", 6))}
    assert _ids(first.train) | _ids(first.val) | _ids(first.test) == {
        f"{k}/{i:02d}.jpg" for k in ("disc", "square") for i in range(24)
    }
    assert not _ids(first.train) & _ids(first.val)
    assert not (_ids(first.train) | _ids(first.val)) & _ids(first.test)
    for part in SPLITS:
        assert getattr(first, part).ids.tolist() == getattr(again, part).ids.tolist()
    assert _ids(first.test) != _ids(other.test)
    assert (first.digest == again.digest, first.digest == other.digest) == (True, False)


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_carved_from_train(split_folder, missing):
    shutil.rmtree(split_folder / missing)
    data = splits_of(f"folder:{split_folder}")
    assert all(name.startswith("train/") for name in getattr(data, missing).ids)
    assert data.counts()[missing] == {"disc": 2, "square": 2}
    assert data.counts()["train"] == {"disc": 4, "square": 4}


def test_a_new_file_moves_few_others_and_copies_stay_together(photos, tmp_path):
    root = tmp_path / "more"
    shutil.copytree(photos, root)
    for index in range(12):
        shutil.copy(root / "disc" / f"{index:02d}.jpg", root / "disc" / f"copy{index}.jpg")
    before, after = splits_of(f"folder:{photos}"), splits_of(f"folder:{root}")
    assert len(_ids(before.test) & _ids(after.test)) >= len(before.test) - 3
    for index in range(12):
        places = [
            part for part in SPLITS if _ids(getattr(after, part)) & {f"disc/copy{index}.jpg", f"disc/{index:02d}.jpg"}
        ]
        assert len(places) == 1


def test_a_class_without_a_readable_training_image_is_refused(split_folder):
    for path in (split_folder / "train" / "disc").iterdir():
        path.write_bytes(b"spoiled")
    with pytest.raises(
        UserError, match=r"a class needs a training image that can be used; in all, 6 files cannot be used .*'disc'"
    ):
        splits_of(f"folder:{split_folder}")


def _listing(task, labels, split_names=None, digests=None):
    """Examples without images, each with bytes of its own."""
    count, wide = len(labels), np.ndim(labels) == 2
    return Listing(
        name="made",
        task=task,
        ids=np.array([f"{i}.png" for i in range(count)]),
        labels=np.asarray(labels, np.float32 if wide else np.int32),
        split_names=np.array([""] * count if split_names is None else split_names, "<U5"),
        classes=tuple("abcdefghij"[: np.shape(labels)[1] if wide else max(labels) + 1]),
        read=lambda index: b"",
        digests=(made := np.array([hashlib.sha256(str(i).encode()).hexdigest() for i in (digests or range(count))])),
        pixel_digests=made,
    )


def _made(task, count=600, seed=0):
    """Labels as they come: rare and frequent classes, some that go together, some examples without any."""
    rng = np.random.default_rng(seed)
    if task == "single_label":
        return rng.choice(5, count, p=[0.5, 0.3, 0.1, 0.08, 0.02])
    if task == "regression":
        return np.column_stack([rng.exponential(10, count), rng.normal(size=count)])
    labels = rng.random((count, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.01]
    labels[:, 1] |= labels[:, 4]
    return labels


TASKS = ("single_label", "multi_label", "regression")


@pytest.mark.parametrize("task", TASKS)
def test_labels_of_every_form_are_split_stratified(task):
    labels = _made(task)
    data = splits.make_splits(_listing(task, labels), None, 0.2, 0.2, 0)
    sizes = {part: len(getattr(data, part)) for part in SPLITS}
    assert sum(sizes.values()) == 600
    assert abs(sizes["test"] - 120) <= 6
    assert abs(sizes["val"] - 96) <= 6
    assert data.test.labels.dtype == (np.int32 if task == "single_label" else np.float32)
    if task == "regression":
        assert data.counts() == {part: {"examples": size} for part, size in sizes.items()}
        for part in SPLITS:
            np.testing.assert_allclose(getattr(data, part).labels[:, 0].mean(), labels[:, 0].mean(), rtol=0.15)
        return
    counts = {part: np.array(list(data.counts()[part].values())) for part in SPLITS}
    every = sum(counts.values())
    assert every.tolist() == (np.bincount(labels) if task == "single_label" else labels.sum(0)).tolist()
    assert (np.abs(counts["test"] - 0.2 * every) <= np.maximum(2, 0.03 * every)).all()
    assert (np.abs(counts["val"] - 0.16 * every) <= np.maximum(2, 0.03 * every)).all()
    assert all((counts[part] > 0).all() for part in SPLITS)


@pytest.mark.parametrize("task", TASKS)
def test_a_new_example_moves_few_others_whatever_the_labels(task):
    labels = _made(task)
    before = splits.make_splits(_listing(task, labels), None, 0.2, 0.2, 0)
    again = splits.make_splits(_listing(task, labels), None, 0.2, 0.2, 0)
    after = splits.make_splits(_listing(task, np.concatenate([labels, labels[:1]])), None, 0.2, 0.2, 0)
    other = splits.make_splits(_listing(task, labels), None, 0.2, 0.2, 1)
    assert before.digest == again.digest
    assert len(_ids(before.test) & _ids(after.test)) >= len(before.test) * 0.9
    assert len(_ids(before.test) & _ids(other.test)) < len(before.test) * 0.5
    changed = labels.copy()
    changed[0] = 1 - changed[0]
    assert splits.make_splits(_listing(task, changed), None, 0.2, 0.2, 0).digest != before.digest


@pytest.mark.parametrize("task", TASKS)
def test_copies_stay_together_whatever_the_labels(task):
    half = _made(task, 300)
    data = splits.make_splits(
        _listing(task, np.concatenate([half, half]), digests=[*range(300)] * 2), None, 0.2, 0.2, 0
    )
    for part in SPLITS:
        numbers = {int(name.removesuffix(".png")) for name in _ids(getattr(data, part))}
        assert {(number + 300) % 600 for number in numbers} == numbers


def test_the_limit_takes_from_train_only():
    listing = _listing("single_label", _made("single_label"))
    whole, five, three = (splits.make_splits(listing, None, 0.2, 0.2, 0, limit) for limit in (None, 5, 3))
    assert five.counts()["train"] == {name: min(5, n) for name, n in whole.counts()["train"].items()}
    assert _ids(three.train) < _ids(five.train) < _ids(whole.train)
    assert (_ids(five.val), _ids(five.test)) == (_ids(whole.val), _ids(whole.test))
    assert five.digest != whole.digest
    unused = len(whole.train) - len(five.train)
    assert [finding.detail for finding in five.findings] == [f"{unused} images over --per_class_limit are not used"]
    assert _ids(
        splits.make_splits(replace(listing, split_names=listing.split_names), None, 0.2, 0.2, 1, 5).train
    ) != _ids(five.train)


def test_the_limit_holds_for_every_label_of_an_image():
    listing = _listing("multi_label", _made("multi_label"))
    whole, limited = (splits.make_splits(listing, None, 0.2, 0.2, 0, limit) for limit in (None, 10))
    for name, count in limited.counts()["train"].items():
        assert 0 < count <= 10, name
    rare = [name for name, count in whole.counts()["train"].items() if count <= 5]
    assert rare
    assert all(limited.counts()["train"][name] == whole.counts()["train"][name] for name in rare)
    assert (limited.train.labels.sum(1) == 0).sum() == 10  # those without a label are limited too
    assert _ids(limited.test) == _ids(whole.test)


def test_a_class_that_no_training_image_has_is_named_under_multi_label():
    labels = np.array([[1, 0], [1, 0], [0, 0], [1, 1], [0, 1]])
    data = splits.make_splits(
        _listing("multi_label", labels, ["train", "train", "train", "val", "test"]), None, 0.2, 0.2, 0
    )
    assert data.classes == ("a", "b")
    assert [(finding.path, finding.kind, finding.verdict) for finding in data.findings] == [
        ("class 'b'", "no_positive", "warn"),
        ("test/", "missing_class", "warn"),
    ]


def test_a_target_that_never_changes_is_refused():
    labels = np.column_stack([np.arange(20), np.full(20, 3.5)])
    with pytest.raises(UserError, match=r"--data: target 'b' is 3\.5 in all training images"):
        splits.make_splits(_listing("regression", labels), None, 0.2, 0.2, 0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("part", ["test", "train"])
def test_a_split_that_comes_out_empty_is_refused(task, part):
    with pytest.raises(UserError, match=r"--data: no image is left for the (train|val) split"):
        splits.make_splits(_listing(task, _made(task)[:1], [part]), None, 0.2, 0.2, 0)


@pytest.mark.parametrize(
    ("task", "who"),
    [
        ("regression", "at least three different images are needed"),
        ("single_label", "a class needs at least three different images"),
    ],
)
def test_why_a_split_is_empty_is_said(task, who):
    listing = replace(_listing(task, _made(task)[:40]), groups=np.repeat(["a", "b"], 20))
    rule = (
        rf"{who}, one for each of train, val and test; copies, near duplicates and images of one group count as one, "
    )
    with pytest.raises(UserError, match=rf"(val|test) split; {rule}so that there are only 2\. Received: 40 in all"):
        splits.make_splits(listing, None, 0.2, 0.2, 0)
    listing = replace(listing, groups=None, near_groups=np.repeat([0, 20], 20))
    with pytest.raises(UserError, match="test; copies and near duplicates count as one, so that there are only 2"):
        splits.make_splits(listing, None, 0.2, 0.2, 0)
    one = _listing(task, _made(task)[:2], ["train", "test"])
    with pytest.raises(
        UserError, match=f"val split; {who.replace('three', 'two')}, one for each of train and val. Rec"
    ):
        splits.make_splits(one, None, 0.2, 0.2, 0)


def test_what_exclude_leaves_out_is_not_said_to_be_unreadable():
    found = tuple(Finding(f"{index}", "excluded", "reject", "") for index in range(3))
    found += (Finding("x", "corrupt", "reject", ""),)
    listing = replace(_listing("single_label", np.zeros(30, int)), classes=("disc", "square"), findings=found)
    rule = (
        r"can be used; in all, 1 file cannot be used and --exclude names 3 files \(see audit\.json\)\. Received: class"
    )
    with pytest.raises(UserError, match=rule):
        splits.make_splits(listing, None, 0.2, 0.2, 0)


def _split(labels):
    return splits.Split(np.arange(len(labels)).astype(str), np.array(labels), lambda index: b"", None)


def test_balanced_weights_give_every_class_the_same():
    from sklearn.utils.class_weight import compute_sample_weight

    split = _split(np.int32([0] * 6 + [1] * 3 + [2]))
    weights = splits.example_weights(split, ("a", "b", "c"), "single_label")
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", split.labels), rtol=1e-6)
    np.testing.assert_allclose(np.bincount(split.labels, weights), 10 / 3, rtol=1e-6)
    # A small validation split may lack a class.
    np.testing.assert_array_equal(splits.example_weights(split, ("a", "b", "c", "d"), "single_label"), weights)


def test_balanced_weights_of_several_labels():
    labels = np.float32([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]])
    one = splits.example_weights(_split(labels[:, :1]), ("a",), "multi_label")
    np.testing.assert_allclose(one, [2 / 3, 2 / 3, 2, 2 / 3], rtol=1e-6)
    weights = splits.example_weights(_split(labels), ("a", "b", "c"), "multi_label")
    np.testing.assert_allclose(weights[1], (2 / 3 + 2 + 1) / 3, rtol=1e-6)
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
    with pytest.raises(UserError, match="--class_weights: is for single_label and multi_label"):
        splits.example_weights(_split(labels), ("a", "b", "c"), "regression")


def test_copies_of_what_a_split_before_has_are_left_out_and_counted():
    """Rows 0 to 7 are train, 8 to 11 val and 12 to 16 test; 8 is a copy of 0, 12 of 1 under another label, 13 of 9."""
    parts = ["train"] * 8 + ["val"] * 4 + ["test"] * 5
    digests = [*range(8), 0, 20, 21, 22, 1, 20, 30, 31, 32]
    labels = [0, 1] * 4 + [0, 1, 0, 1] + [0, 1, 0, 1, 0]
    listing = _listing("single_label", labels, parts, digests)
    listing = replace(listing, digests=np.array([f"bytes {i}" for i in range(17)]))  # other bytes each
    data = splits.make_splits(listing, None, 0.2, 0.2, 0)
    assert data.excluded == {"val": 1, "test": 2}
    assert data.val.ids.tolist() == ["9.png", "10.png", "11.png"]
    assert data.test.ids.tolist() == ["14.png", "15.png", "16.png"]
    assert len(data.train) == 8


def test_a_test_split_of_nothing_but_copies_is_refused():
    listing = _listing("single_label", [0, 1] * 6, ["train"] * 4 + ["val"] * 4 + ["test"] * 4, [*range(8), 0, 1, 4, 5])
    with pytest.raises(UserError, match="--data: all 4 test images are the same as images of an earlier split"):
        splits.make_splits(listing, None, 0.2, 0.2, 0)


def test_copies_in_other_bytes_are_carved_together():
    labels = np.arange(200) % 2
    listing = _listing("single_label", labels, digests=[*range(100)] * 2)
    listing = replace(listing, digests=np.array([hashlib.sha256(f"{i}".encode()).hexdigest() for i in range(200)]))
    data = splits.make_splits(listing, None, 0.2, 0.2, 0)
    places = [{int(name[:-4]) % 100 for name in getattr(data, part).ids} for part in SPLITS]
    assert sum(map(len, places)) == 100
    assert data.excluded == {"val": 0, "test": 0}


@pytest.mark.parametrize("seed", range(12))
def test_a_burst_of_near_duplicates_does_not_take_a_class_out_of_training(seed):
    """A class of one burst of 400 images and 100 single ones, beside one of 500 single ones."""
    listing = _listing("single_label", np.repeat([0, 1], 500))
    near = np.arange(1000)
    near[:400] = 0
    found = splits.make_splits(replace(listing, near_groups=near), None, 0.2, 0.2, seed)
    counts = [(found.counts()[name]["a"], found.counts()[name]["b"]) for name in SPLITS]
    assert counts[0][0] >= 400 and all(few >= 10 and many >= 75 for few, many in counts[1:])


def test_fractions_count_images_where_some_are_near_duplicates():
    """Six bursts of 15 and 30 single images in each class. Counted by bursts, 7 to 49 of them went to test."""
    near = np.arange(240)
    near[:90] = near[:90] // 15 * 15
    near[120:210] = near[120:210] // 15 * 15
    listing = replace(_listing("single_label", np.repeat([0, 1], 120)), near_groups=near)
    for seed in range(20):
        data = splits.make_splits(listing, None, 0.2, 0.2, seed)
        assert all(20 <= count <= 30 for count in data.counts()["test"].values())
        assert all(14 <= count <= 24 for count in data.counts()["val"].values())


def test_folds_know_copies_and_near_duplicates_without_groups():
    listing = _listing("single_label", np.repeat([0, 1], 30), digests=[0, 0, *range(2, 60)])
    near = np.arange(60)
    near[10:13] = 10
    found = splits.make_splits(replace(listing, near_groups=near), None, 0.2, 0.2, 0)
    units = {name: unit for part in SPLITS for name, unit in zip(getattr(found, part).ids, getattr(found, part).groups)}
    assert units["0.png"] == units["1.png"] and len({units[f"{index}.png"] for index in (10, 11, 12)}) == 1
    assert len(set(units.values())) == 57
    plain = splits.make_splits(_listing("single_label", np.repeat([0, 1], 30)), None, 0.2, 0.2, 0)
    assert plain.train.groups is None


def test_a_class_of_bursts_only_has_the_smallest_outside_of_training():
    listing = _listing("single_label", np.array([0] * 100 + [1] * 100))
    near = np.arange(200)
    near[:50], near[50:80], near[80:100] = 0, 50, 80
    found = splits.make_splits(replace(listing, near_groups=near), None, 0.1, 0.1, 0)
    assert [found.counts()[name]["a"] for name in SPLITS] == [50, 30, 20]


def test_a_split_that_lacks_a_class_is_told():
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    data = splits.make_splits(_listing("single_label", [0, 1, 2] * 2 + [0, 1] + [0, 0, 0], parts), None, 0.2, 0.2, 0)
    assert [(finding.path, finding.kind, finding.verdict, finding.detail) for finding in data.findings] == [
        ("val/", "missing_class", "warn", "no image of class 'c': nothing is chosen by it"),
        ("test/", "missing_class", "warn", "no image of classes 'b', 'c': the test score does not measure them"),
    ]


def test_shares_that_leave_nothing_to_learn_from_are_refused(photos):
    with pytest.raises(UserError, match=r"--val_fraction: together with --test_fraction .* Received: 0.6 and 0.6"):
        splits_of(f"folder:{photos}", val=0.6, test=0.6)
