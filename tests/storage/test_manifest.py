"""The manifest: what has changed in the data is said by split and class."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import audited, write

from kerasft.data import sources
from kerasft.settings.config import Config
from kerasft.storage import manifest


@pytest.fixture
def written(split_folder, tmp_path):
    run = tmp_path / "run"
    manifest.write(run, sources.load(Config(data=f"folder:{split_folder}")), audited(f"folder:{split_folder}")[0])
    return split_folder, run


def _changes(root, run) -> str:
    return manifest.describe_changes(run, sources.load(Config(data=f"folder:{root}")))


def test_the_same_files_are_no_change(written):
    assert _changes(*written) == ""


def test_added_removed_altered_and_moved_files_are_counted(written):
    root, run = written
    write(root / "train" / "disc" / "new.png", "disc", 99)
    (root / "val" / "square" / "0.png").unlink()
    write(root / "test" / "disc" / "1.png", "disc", 98)
    assert set(_changes(root, run).replace("), ", ");").split(";")) == {
        "1 added (train, disc)",
        "1 altered (test, disc)",
        "1 removed (val, square)",
    }
    shutil.rmtree(root / "test" / "disc")
    assert "3 removed (test, disc)" in _changes(root, run)


def test_files_whose_digest_is_known_are_not_read_again(written):
    root, run = written
    write(root / "train" / "disc" / "0.png", "disc", 99)
    listing, read = sources.load(Config(data=f"folder:{root}")), []
    checked, _ = audited(f"folder:{root}")
    counted = replace(listing, read=lambda index: read.append(index) or listing.read(index))
    digests = dict(zip(checked.ids.tolist(), checked.digests.tolist()))
    unknown = digests.popitem()[0]
    changes = manifest.describe_changes(run, counted, digests=digests)
    assert (changes, [listing.ids[index] for index in read]) == ("1 altered (train, disc)", [unknown])


def test_two_runs_were_given_the_same_files_or_not(written, tmp_path):
    root, run = written
    other = tmp_path / "other"
    assert not manifest.are_equal(run, other)
    manifest.write(other, sources.load(Config(data=f"folder:{root}")), audited(f"folder:{root}")[0])
    assert manifest.are_equal(run, other)
    write(root / "train" / "disc" / "0.png", "disc", 97)
    manifest.write(other, sources.load(Config(data=f"folder:{root}")), audited(f"folder:{root}")[0])
    assert not manifest.are_equal(run, other)


def test_without_a_whole_manifest_nothing_is_said(written):
    root, run = written
    (run / manifest.FILE_NAME).write_bytes(b"broken")
    write(root / "train" / "disc" / "new.png", "disc", 99)
    assert _changes(root, run) == ""


def table(place, header="path,width,mass,patient", patient="p", value="1234567.1"):
    rows = [
        f"{index}.png,{index},{value if index == 3 else index},{patient if index == 2 else index}" for index in range(4)
    ]
    place.write_text("\n".join([header, *rows]) + "\n")
    # Without digests no bytes are compared.
    return replace(sources.load(Config(data=f"csv:{place}", group_column="patient")), digests=np.full(4, ""))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"patient": "another"}, "1 in another group (train)"),
        # The names of two columns the wrong way round.
        ({"header": "path,mass,width,patient"}, "4 under another label or split (train)"),
        ({"value": "1234567.9"}, "1 under another label or split (train)"),
    ],
)
def test_targets_their_names_and_groups_are_compared(tmp_path, change, message):
    for index in range(4):
        write(tmp_path / f"{index}.png", "disc", index)
    listing = table(tmp_path / "t.csv")
    manifest.write(tmp_path / "run", listing, listing)
    assert manifest.describe_changes(tmp_path / "run", table(tmp_path / "t.csv", **change)) == message


def test_a_manifest_without_groups_and_names_is_compared_by_the_rest(tmp_path):
    for index in range(4):
        write(tmp_path / f"{index}.png", "disc", index)
    listing = table(tmp_path / "t.csv", value="5")
    labels = np.array(manifest._describe_labels(listing, named=False))
    names = {"ids": listing.ids, "parts": listing.split_names, "labels": labels, "digests": np.full(4, "")}
    (tmp_path / "run").mkdir()
    np.savez_compressed(tmp_path / "run" / manifest.FILE_NAME, **names)
    changed = table(tmp_path / "t.csv", value="5", patient="another")
    assert manifest.describe_changes(tmp_path / "run", changed) == ""
    changed = table(tmp_path / "t.csv", value="6")
    assert manifest.describe_changes(tmp_path / "run", changed) == "1 under another label or split (train)"


def test_a_file_that_is_repaired_is_a_change(split_folder, tmp_path):
    place = split_folder / "train" / "disc" / "broken.png"
    place.write_bytes(b"\x89PNG but no more")
    manifest.write(tmp_path, sources.load(Config(data=f"folder:{split_folder}")), audited(f"folder:{split_folder}")[0])
    assert _changes(split_folder, tmp_path) == ""
    write(place, "disc", 99)
    assert _changes(split_folder, tmp_path) == "1 altered (train, disc)"
