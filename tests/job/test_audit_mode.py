"""`kerasft audit`, from the command line to its files, and what a run does with its list."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from textures import COPIES, texture

from kerasft.data import sources
from kerasft.job import audit_mode, train
from kerasft.job.audited_splits import audit_and_split
from kerasft.probes import suspects
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

SETTINGS = {"image_size": 32, "phases": "head(epochs=0)", "precision": "float32", "augment": "none", "batch_size": 8}


def tinted(seed: int, name: str) -> Image.Image:
    """A texture in red or blue, which even random features tell apart."""
    pixels = np.asarray(texture(seed)).astype(np.float32)
    pixels[..., 2 if name == "red" else 0] *= 0.3
    return Image.fromarray(np.uint8(pixels))


@pytest.fixture(scope="module")
def flawed(tmp_path_factory):
    """Two classes with a leak, a wrong label, a dark image and one under another extension."""
    root = tmp_path_factory.mktemp("audit") / "colours"
    seed = 0
    for part, count in (("train", 24), ("val", 6), ("test", 6)):
        for name in ("red", "blue"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                seed += 1
                tinted(seed, name).save(root / part / name / f"{index:02d}.png")
    tinted(900, "red").save(root / "train/blue/wrong.png")
    COPIES["half"](tinted(1, "red")).save(root / "test/red/leak.png")
    tinted(901, "red").point(lambda value: value // 6).save(root / "train/red/dark.png")
    tinted(902, "red").save(root / "train/red/jpeg.png", "JPEG", quality=95)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def flags(**settings) -> tuple[str, ...]:
    given = (f"--{name}={value}" for name, value in (SETTINGS | settings).items() if not isinstance(value, bool))
    return (*given, "--notensorboard")


def test_audit_writes_its_files_and_a_run_leaves_out_what_the_list_names(flawed, place, tiny, command):
    done = command("audit", *flags(data=f"folder:{flawed}", backbone=tiny, run_dir="a"), cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert "WARNING: 1 leak: " in done.stdout
    assert "audited: a/audit.json, suspects.csv and audit.html" in done.stdout
    names = {path.name for path in (place / "a").iterdir()} - {".lock"}
    assert names == {"config.json", "run.flags", "audit.json", "suspects.csv", "audit.html"}
    found = json.loads((place / "a" / "audit.json").read_text())
    by_path = {row["path"]: row for row in found["findings"]}
    assert {path: row["kind"] for path, row in by_path.items()} == {
        "test/red/leak.png": "leak",
        "train/blue/wrong.png": "suspect_label",
        "train/red/dark.png": "dark",
        "train/red/jpeg.png": "mistyped",
    }
    assert by_path["test/red/leak.png"]["other"] == "train/red/00.png"
    assert by_path["train/blue/wrong.png"]["suggested"] == "red"
    assert found["counts"]["train"] == {"blue": 25, "red": 26}
    with (place / "a" / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["label"], row["suggested"]) for row in rows] == [
        ("train/blue/wrong.png", "blue", "red"),
        ("test/red/leak.png", "red", ""),
        ("train/red/dark.png", "red", ""),
    ]
    page = (place / "a" / "audit.html").read_text()
    assert page.count("data:image/jpeg") == 4
    assert len(page) < 3_000_000

    config = Config(
        **SETTINGS,
        data=f"folder:{flawed}",
        backbone=tiny,
        run_dir=str(place / "run"),
        export_dir=str(place / "exports"),
        exclude=str(place / "a" / "suspects.csv"),
        tensorboard=False,
    )
    metrics = train.train(config).metrics
    assert metrics["test"]["n"] == 12
    audit = json.loads((place / "run" / "audit.json").read_text())
    kinds = {row["path"]: row["kind"] for row in audit["findings"]}
    assert kinds == {
        "test/red/leak.png": "excluded",
        "train/blue/wrong.png": "excluded",
        "train/red/dark.png": "excluded",
        "train/red/jpeg.png": "mistyped",
    }


def test_a_run_finds_wrong_labels_and_shows_them(flawed, place, tiny, monkeypatch):
    # Fifty images leave a probe less sure than the default bound.
    monkeypatch.setattr(suspects, "MIN_LABEL_SCORE", 0.75)
    config = Config(
        **SETTINGS,
        data=f"folder:{flawed}",
        backbone=tiny,
        run_dir=str(place / "whole"),
        export_dir=str(place / "exports"),
        tensorboard=False,
    )
    train.train(config)
    audit = json.loads((place / "whole" / "audit.json").read_text())
    assert {row["kind"] for row in audit["findings"]} == {"leak", "suspect_label", "dark", "mistyped"}
    assert (place / "whole" / "suspects.csv").read_text().count("\n") == 4
    page = (place / "whole" / "report.html").read_text()
    assert "Labels that may be wrong" in page and "train/blue/wrong.png" in page
    # A finished run writes its page again, with the same images.
    (place / "whole" / "report.html").unlink()
    train.train(config)
    again = (place / "whole" / "report.html").read_text()
    assert again.count("data:image/jpeg") == page.count("data:image/jpeg")


def test_excluded_files_are_no_bad_images(tmp_path):
    """One that cannot be decoded, and one that the source rejects already."""
    for name in ("red", "blue"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(6):
            tinted(index, name).save(tmp_path / "set" / name / f"{index}.png")
    (tmp_path / "set/red/broken.png").write_bytes(b"x")
    (tmp_path / "set/loose.png").write_bytes(b"x")
    exclude = tmp_path / "list.txt"
    for named, left in (("red/broken.png\n", 1), ("red/broken.png\nloose.png\n", 0)):
        exclude.write_text(named)
        config = Config(data=f"folder:{tmp_path / 'set'}", exclude=str(exclude), bad_images="fail")
        folder = tmp_path / str(left)
        folder.mkdir()
        if left:
            with pytest.raises(UserError, match="--bad_images: 1 files or folders"):
                audit_and_split(config, sources.load(config), 32, folder)
        else:
            data = audit_and_split(config, sources.load(config), 32, folder)
    assert {finding.kind for finding in data.findings if finding.verdict == "reject"} == {"excluded"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"bad_images": "fail"}, "--bad_images: 1 files"), ({}, "--data: a class needs a training image")],
)
def test_an_audit_that_ends_with_an_error_leaves_its_findings(tmp_path, tiny, settings, message):
    for name in ("red", "blue"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(4):
            tinted(index + 10 * (name == "red"), name).save(tmp_path / "set" / name / f"{index}.png")
    (tmp_path / "set" / "bad").mkdir()
    (tmp_path / "set" / "bad" / "0.png").write_bytes(b"no image at all")
    run = tmp_path / "run"
    config = Config(**SETTINGS, data=f"folder:{tmp_path / 'set'}", backbone=tiny, run_dir=str(run), **settings)
    with pytest.raises(UserError) as caught:
        audit_mode.audit(config)
    assert str(caught.value).startswith(message)
    assert ".audit" not in str(caught.value)
    (found,) = json.loads((run / "audit.json").read_text())["findings"]
    assert (found["path"], found["kind"]) == ("bad/0.png", "not_an_image")
    assert (run / "suspects.csv").is_file()
    assert not (run / ".audit").exists()


def test_a_list_in_the_run_folder_is_not_written_over(flawed, tmp_path, tiny):
    (tmp_path / "suspects.csv").write_text("path\ntrain/red/dark.png\n")
    (tmp_path / "config.json").write_text("{}")
    config = Config(
        **SETTINGS,
        data=f"folder:{flawed}",
        backbone=tiny,
        run_dir=str(tmp_path),
        exclude=str(tmp_path / "suspects.csv"),
    )
    listing = sources.load(config)
    for refused in (lambda: audit_mode.audit(config), lambda: audit_and_split(config, listing, 32, tmp_path)):
        with pytest.raises(UserError, match=r"--exclude: a run writes suspects\.csv in its own folder anew"):
            refused()
    assert (tmp_path / "suspects.csv").read_text() == "path\ntrain/red/dark.png\n"
