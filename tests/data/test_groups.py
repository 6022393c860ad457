"""Groups: no group stands on both sides of a split, and what tells of groups is said."""

from collections import Counter

import numpy as np
import pytest
from conftest import audited, splits_of, write
from textures import COPIES, texture

from kerasft.data import sources, splits, stratification
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


@pytest.fixture
def patients(tmp_path):
    """Two classes of 24 images, four of each patient."""
    for index in range(48):
        kind = ("disc", "square")[index % 2]
        write(tmp_path / kind / f"p{index // 4:02d}-{index}.png", kind, index)
    return tmp_path


def sides(data, group) -> dict[str, set[str]]:
    found = {}
    for part in ("train", "val", "test"):
        for path in getattr(data, part).ids:
            found.setdefault(group(path), set()).add(part)
    return found


def test_a_group_stays_on_one_side_and_the_seed_chooses_groups(patients):
    checked, _ = audited(f"folder:{patients}", group_pattern=r"p(\d+)-")
    tests = set()
    for seed in range(4):
        data = splits.make_splits(checked, None, 0.25, 0.25, seed)
        assert all(len(parts) == 1 for parts in sides(data, lambda path: path.split("/")[1][:3]).values())
        assert (len(data.train), len(data.val), len(data.test)) == (28, 8, 12)
        assert all(min(counts.values()) > 0 for counts in data.counts().values())
        tests.add(tuple(data.test.ids))
    assert len(tests) > 1


def test_the_column_of_a_table_names_groups_and_is_no_target(tmp_path):
    rows = ["path,age,patient"]
    for index in range(24):
        write(tmp_path / f"{index}.png", seed=index)
        rows.append(f"{index}.png,{index * 1.5},{index // 4 if index < 20 else ''}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    listing = sources.load(Config(data=f"csv:{tmp_path / 't.csv'}", group_column="patient"))
    assert (listing.task, listing.classes) == ("regression", ("age",))
    assert listing.groups[:20].tolist() == [str(index // 4) for index in range(20)]
    # An image without a group is one of its own.
    assert len(set(listing.groups)) == 9
    data = splits_of(f"csv:{tmp_path / 't.csv'}", group_column="patient")
    found = sides(data, lambda path: int(path[:-4]) // 4)
    assert all(len(found[patient]) == 1 for patient in range(5))


def _table_of_patients(folder, patients, header="path,label,patient"):
    rows = [header]
    for index, patient in enumerate(patients):
        write(folder / f"{index}.png", seed=index)
        rows.append(f"{index}.png,{'ab'[index % 2]},{patient}")
    (folder / "t.csv").write_text("\n".join(rows))
    return sources.load(Config(data=f"csv:{folder / 't.csv'}", group_column="patient"))


def test_missing_groups_of_a_table_are_named(tmp_path):
    listing = _table_of_patients(tmp_path, ["p1", "p1", "", " ", "NA", "NA", "NA", "nan", "unknown", "unknown"])
    assert [(one.path, one.kind, one.verdict) for one in listing.findings] == [
        (path, "group", "warn") for path in ("2.png", "4.png", "8.png")
    ]
    empty, placeholder, _ = [one.detail for one in listing.findings]
    assert empty == "--group_column=patient is empty for 2 images, each a group of its own"
    assert placeholder.startswith("--group_column=patient: 3 images are one group 'NA'; if it says")
    assert _table_of_patients(tmp_path, ["p1", "p1", "p2", "n/a"]).findings == ()


def test_a_column_of_groups_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="each column needs a name of its own; found: path, label, patient, patient"):
        _table_of_patients(tmp_path, ["p1,1", "p2,1"], "path,label,patient,patient")


def test_given_splits_that_break_groups_are_leaks(tmp_path):
    for index in range(18):
        part = ("train", "val", "test")[index % 3] if index < 9 else "train"
        write(tmp_path / part / ("disc", "square")[index % 2] / f"g{index // 3}_{index}.png", seed=index)
    checked, _ = audited(f"folder:{tmp_path}", group_pattern=r"g(\d+)_")
    leaks = [finding for finding in checked.findings if finding.kind == "leak"]
    assert len(leaks) == 6
    # Each image of a group is named, so that all of them can be left out.
    write(tmp_path / "test" / "disc" / "g0_99.png", seed=99)
    checked, _ = audited(f"folder:{tmp_path}", group_pattern=r"g(\d+)_")
    assert len([finding for finding in checked.findings if finding.kind == "leak"]) == 7
    assert all("stands in train and in" in finding.detail and finding.score == 1 for finding in leaks)


def test_chains_of_near_duplicates_are_warned_of_and_kept_together(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(8):
            texture(index + 20 * (name == "b")).save(tmp_path / name / f"{index}.png")
    for count, kind in enumerate(("re-encoded", "half", "cropped")):
        COPIES[kind](texture(3)).save(tmp_path / "a" / f"copy{count}.png")
    checked, _ = audited(f"folder:{tmp_path}", size=96)
    (chain,) = [finding for finding in checked.findings if finding.kind == "group"]
    assert chain.path == "a/3.png"
    assert "chain of 4 near duplicates" in chain.detail
    for seed in range(3):
        data = splits.make_splits(checked, None, 0.3, 0.3, seed)
        found = sides(data, lambda path: path)
        assert len({frozenset(found[f"a/{name}.png"]) for name in ("3", "copy0", "copy1", "copy2")}) == 1


def test_paths_without_a_group_are_counted(patients):
    write(patients / "disc" / "other.png", seed=99)
    listing = sources.load(Config(data=f"folder:{patients}", group_pattern=r"p(\d+)-"))
    (found,) = listing.findings
    assert (found.path, found.kind) == ("disc/other.png", "group")
    assert "in 1 paths" in found.detail
    assert Counter(Counter(listing.groups).values()) == {4: 12, 1: 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_pattern": "("}, "--group_pattern: must be a regular expression"),
        ({"group_pattern": r"p\d+"}, "--group_pattern: needs a group in brackets"),
        ({"group_pattern": "nothing(x)"}, "--group_pattern: is found in none of 48 paths, such as"),
        ({"group_column": "patient"}, "--group_column: is for csv"),
    ],
)
def test_mistakes(patients, settings, message):
    with pytest.raises(UserError) as told:
        sources.load(Config(data=f"folder:{patients}", **settings))
    assert str(told.value).startswith(message)


def test_units_of_many_sizes_come_near_the_fraction():
    rng = np.random.default_rng(0)
    for seed in range(10):
        sizes = rng.integers(0, 9, (80, 4)) * (rng.random((80, 4)) < 0.5)
        ranks = stratification.rank(seed, "test", np.arange(80).astype(str))
        chosen = stratification.sample_units(sizes, ranks, 0.2 * sizes.sum(0))
        np.testing.assert_allclose(sizes[chosen].sum(0) / sizes.sum(0), 0.2, atol=0.06)


def test_a_class_of_one_unit_is_never_taken_and_one_of_two_is_parted():
    sizes = np.array([[5, 0], [0, 30], [0, 30]])
    chosen = stratification.sample_units(sizes, np.array(["a", "b", "c"]), 0.2 * sizes.sum(0))
    assert chosen.tolist() == [False, True, False]
