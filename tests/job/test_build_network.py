"""What is settled before an image is read, and taken from the folder by a run that goes on."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from kerasft.data.listing import Listing
from kerasft.job import build_network
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import resolved_settings
from kerasft.storage.resolved_settings import ResolvedSettings

SMALL = {"backbone": "MobileNet(alpha=0.25)", "weights": "none", "phases": "all(epochs=1)"}


def _listing(side, count=20, broken=0):
    def read(index):
        buffer = io.BytesIO()
        Image.new("RGB", (side + index % 3, side)).save(buffer, "PNG")
        return b"no image" if index < broken else buffer.getvalue()

    labels = np.arange(count, dtype=np.int32) % 2
    ids = np.array([f"{i}.png" for i in range(count)])
    parts = np.full(count, "", "<U5")
    return Listing("x", "single_label", ids, labels, parts, ("a", "b"), read)


@pytest.mark.parametrize(("side", "size"), [(8, 64), (17, 96), (28, 128), (56, 224), (500, 224)])
def test_small_images_are_not_enlarged_beyond_fourfold(tmp_path, side, size, capsys):
    network, settled = build_network.resolve_settings(Config(**SMALL, precision="float32"), _listing(side), tmp_path)
    assert network.size == settled.image_size == size
    assert ("image size" in capsys.readouterr().out) == (size < 224)
    assert json.loads((tmp_path / "settled.json").read_text()) == settled.to_json()
    assert resolved_settings.read(tmp_path) == settled


def test_the_flag_wins_and_unreadable_images_do_not_count(tmp_path):
    network, _ = build_network.resolve_settings(
        Config(**SMALL, precision="float32", image_size=48), _listing(500), tmp_path / "a"
    )
    assert network.size == 48
    network, _ = build_network.resolve_settings(
        Config(**SMALL, precision="float32"), _listing(20, broken=19), tmp_path / "b"
    )
    assert network.size == 96


def test_a_run_that_goes_on_takes_what_was_settled(tmp_path):
    before = {"image_size": 64, "precision": "mixed_bfloat16", "precision_reason": "measured"}
    (tmp_path / "settled.json").write_text(json.dumps(before))
    network, settled = build_network.resolve_settings(Config(**SMALL), _listing(500), tmp_path)
    assert settled == ResolvedSettings("none", 64, "mixed_bfloat16", "measured")
    assert network.size == 64
    assert network.model.get_layer("conv_pw_1").compute_dtype == "bfloat16"
    assert network.model.output.dtype == "float32"


def test_what_a_run_resolved_is_read_back_as_it_was(tmp_path):
    given = {"augment": "flip", "speed": 9.5, "pixels": ([1.0] * 3, [2.0] * 3), "batch_size": 4, "jit": "on"}
    settled = ResolvedSettings("bundled", 64, "float32", **given, phases=["head(epochs=0)"], cached={"a": [1, "x", ""]})
    settled.write(tmp_path)
    assert json.loads(json.dumps(resolved_settings.read(tmp_path).to_json())) == json.loads(
        json.dumps(settled.to_json())
    )
    assert resolved_settings.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", ["{}", '{"image_size": 64}', "[1]", "{"])
def test_a_spoiled_settled_json_is_named(text, tmp_path):
    (tmp_path / "settled.json").write_text(text)
    with pytest.raises(UserError, match=r"--run_dir: settled.json is damaged .*--noresume.*Received"):
        build_network.resolve_settings(Config(**SMALL), _listing(500), tmp_path)


def test_runs_that_share_a_cache_measure_their_precision_once(tmp_path, monkeypatch):
    monkeypatch.setattr(build_network.autotune, "_rival", lambda: "mixed_bfloat16")
    # So short a training would not be measured.
    monkeypatch.setattr(build_network.autotune, "MIN_MULTIPLICATIONS_FOR_PRECISION", 0.0)
    given = SMALL | {"image_size": 32, "keep_cache": True, "cache_dir": str(tmp_path / "cache")}
    _, first = build_network.resolve_settings(Config(**given), _listing(40), tmp_path / "a")
    monkeypatch.setattr(build_network.autotune, "_measured", None)
    _, second = build_network.resolve_settings(Config(**given, seed=5), _listing(40), tmp_path / "b")
    assert second == first
    # It was measured for a training of this length, on images of this size.
    for changed in ({"keep_cache": False}, {"phases": "all(epochs=2)"}, {"phases": "all(epochs=1, image_size=32)"}):
        with pytest.raises(TypeError):
            build_network.resolve_settings(Config(**given | changed), _listing(40), tmp_path / "c")
