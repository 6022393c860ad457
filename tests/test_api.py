"""`import kerasft`: instant, and the same run as the command's."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

import kerasft


def test_import_is_instant_and_names_are_found():
    code = "import sys, kerasft; kerasft.Config(data='digits'); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
    assert set(kerasft.__all__) == {"Config", "HyperModel", "Run", "UserError", "train"}
    with pytest.raises(AttributeError, match="it has Config, HyperModel, Run, UserError, train"):
        _ = kerasft.Confg


@pytest.mark.large
def test_the_readme_example_runs(photos, tmp_path):
    """The very lines of the README, on small images and a small network."""
    text = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(import kerasft.*?)```", text, re.DOTALL)
    example = example.replace('"folder:photos"', repr(f"folder:{photos}"))
    small = 'weights="none", image_size=32, phases="head(epochs=1)", batch_size=8, '
    example = example.replace("kerasft.Config(", "kerasft.Config(" + small)
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env={**__import__("os").environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^[01]\.\d+ saved_models/shapes/1$", done.stdout, re.MULTILINE)
