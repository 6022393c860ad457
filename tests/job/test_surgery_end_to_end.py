"""A run with surgery: said, written down, exported, and the same again when it is started again."""

import json

import keras
import numpy as np
import pytest

from kerasft.commands import rebuild
from kerasft.networks.blending import Blend


@pytest.mark.large
def test_a_run_names_its_surgeries(photos, tiny, command, tmp_path):
    flags = [f"--data=folder:{photos}", f"--backbone={tiny}", "--run_dir=run", "--notensorboard", "--augment=none"]
    flags += ["--phases=head | all(epochs=1)", "--precision=float32", "--jit=off", "--batch_size=8"]
    flags += ["--surgery=truncate(0.75) | prune(0.3) | fold_batchnorm | activation(relu=swish) | dropout(0.1)"]
    done = command(*flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if line.startswith("surgery: ")]
    assert lines[0] == "surgery: truncate(0.75): 6,603 -> 3,019 parameters, 152,112 -> 138,272 multiplications"
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "prune(0.3)",
        "fold_batchnorm",
        "activation(relu=swish)",
        "dropout(0.1)",
    ]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    rows = metrics["settled"]["surgery"]
    assert rows[0] == {"surgery": "truncate(0.75)", "parameters": [6603, 3019], "macs": [152112, 138272]}
    assert rows[1]["parameters"][1] < rows[1]["parameters"][0]
    assert metrics["export"]["top1_agreement"] == metrics["artefacts"]["model.keras"]["top1_agreement"] == 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "after truncate(0.75), prune(0.3), fold_batchnorm, activation(relu=swish), dropout(0.1)" in page
    assert "<code>prune(0.3)</code>" in page
    assert "--surgery=truncate(0.75) | prune(0.3)" in (tmp_path / "run" / "run.flags").read_text()
    again = command("--flagfile=run/run.flags", "--run_dir=again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    replayed = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert replayed["weights_sha256"] == metrics["weights_sha256"]
    assert replayed["test"]["loss"] == pytest.approx(metrics["test"]["loss"])


@pytest.mark.large
@pytest.mark.parametrize(
    ("phase", "kinds"),
    [("norm(epochs=2, lr=1e-3)", ["silu"] * 4), ("top(unfreeze=0.5, epochs=1, lr=1e-3)", [None, None, "silu", "silu"])],
)
def test_of_a_blend_the_new_activation_alone_is_served(photos, tiny, command, tmp_path, phase, kinds):
    flags = [f"--data=folder:{photos}", f"--backbone={tiny}", "--run_dir=run", "--notensorboard", "--augment=none"]
    flags += [f"--phases=head | {phase}", "--precision=float32", "--jit=off", "--batch_size=8", "--tta=none"]
    done = command(*flags, "--surgery=activation(relu=swish, blend=4)", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = "warning: --surgery: the old activation stays in 2 of 4 places, which no phase trained, such as relu_1"
    assert (said in done.stdout) == (None in kinds)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["export"]["top1_agreement"] == metrics["artefacts"]["model.keras"]["top1_agreement"] == 1
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert not any(isinstance(layer, Blend) for layer in model.layers)
    assert [model.get_layer(f"relu_{place}").get_config().get("activation") for place in (1, 2, 3, 4)] == kinds
    # Only where few weights were trained.
    if phase.startswith("norm"):
        rebuild.run(str(tmp_path / "run"))
        rebuilt = keras.models.load_model(tmp_path / "run" / "rebuilt.keras")
        images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
        np.testing.assert_array_equal(rebuilt(images), model(images))
