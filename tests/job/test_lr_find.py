"""`kerasft lr_find` through the real command: what it leaves, and that its suggestion can be pasted."""

import json
import re
import shlex

import numpy as np
from pages import Page

from kerasft.job import lr_find
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.storage import run_folder
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies import planning

SMALL = ("--image_size=32", "--batch_size=16", "--notensorboard", "--precision=float32", "--augment=none")


def test_a_rate_is_suggested_and_no_run_is_begun(command, tiny, tmp_path):
    flags = ("--data=generated:3x30", f"--backbone={tiny}", *SMALL, "--head_init=zeros", "--run_dir=r")
    flags += ("--optimizer=sgd(momentum=0.9)", "--phases=head(epochs=4) | all(epochs=2)")
    done = command("lr_find", *flags, cwd=tmp_path, module="kerasft")
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "r"
    names = {path.name for path in folder.iterdir() if path.name not in run_folder.LOCK_FILES}
    assert names == {"config.json", "run.flags", "lr_find.json", "lr_find.html"}
    found = json.loads((folder / "lr_find.json").read_text())
    assert (found["phase"], found["optimizer"]) == ("head", "sgd(momentum=0.9)")
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"]) > 50
    np.testing.assert_allclose(found["losses"][0], np.log(3), rtol=1e-4)
    assert 5e-3 < found["middle"] == found["suggestion"] < 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("lr_find: --phases"))
    (pasted,) = shlex.split(line.removeprefix("lr_find: "))
    assert pasted == shlex.split(found["flag"])[0]
    first, second = (planning.parse(text) for text in pasted.removeprefix("--phases=").split(" | "))
    assert (first.strategy, first.epochs, first.lr) == ("head", 4, float(f"{found['suggestion']:.2g}"))
    assert (second.strategy, second.epochs, second.lr) == ("all", 2, 1e-4) and second.optimizer is None
    page = Page((folder / "lr_find.html").read_text())
    assert "Suggested" in page.text["p"] and found["flag"] in page.text["code"]
    assert not page.addresses and not page.loose
    assert re.search(r"default-src 'none'", (folder / "lr_find.html").read_text())
    # The folder is free for a run at that rate.
    config = Config(phases=pasted.removeprefix("--phases="), backbone=tiny, run_dir=str(folder))
    assert run_folder.find(config, "generated") == (folder, None)


def test_images_are_framed_as_the_flag_says(photos, tiny, tmp_path, monkeypatch):
    seen = []
    measured = lr_find.first_phase.first_phase
    monkeypatch.setattr(
        lr_find.first_phase,
        "first_phase",
        lambda config, network, splits, *rest: (
            seen.append(splits.train.framing) or measured(config, network, splits, *rest)
        ),
    )
    settings = {"data": f"folder:{photos}", "backbone": tiny, "image_size": 32, "tensorboard": False}
    settings |= {"phases": "all(epochs=2)", "augment": "none", "run_dir": str(tmp_path / "run"), "framing": "pad"}
    lr_find.find(Config(**settings))
    assert seen == ["pad"]


def test_the_flag_leaves_to_other_flags_what_is_theirs():
    config = Config(optimizer="lion", schedule="linear")
    given = {"optimizer": "lion", "schedule": "linear", "loss": "auto", "augment": "flip"}
    told = ", ".join(f"{name}={value}" for name, value in given.items())
    texts = [f"all(epochs=3, lr=0.001, {told})", f"all(epochs=9, lr=0.001, conditional=True, {told})"]
    texts += ["all(epochs=1, lr=0.001, batch_norm='train', optimizer=sgd, schedule=linear, loss=auto, augment=none)"]
    planned = [planning.parse(text) for text in texts]
    resolved = ResolvedSettings("none", 32, "float32", augment="flip")
    flag = lr_find.as_flag(planned, planned[0], 0.01234, config, resolved)
    expected = "all(epochs=3, lr=0.012) | all(epochs=9, lr=0.012, conditional=True) | "
    expected += "all(epochs=1, lr=0.001, batch_norm='train', optimizer=sgd, augment=none)"
    assert flag == f'--phases="{expected}"'
    assert shlex.split(flag) == [f"--phases={expected}"]
    assert [spec.name for spec in specs.parse(expected, "--phases")] == ["all"] * 3
