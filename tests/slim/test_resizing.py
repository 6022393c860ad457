"""Smaller images: which sizes, what the run of a step is given, and that the splits stay."""

import numpy as np
import pytest
from PIL import Image

from kerasft.settings.config import Config
from kerasft.slim import resizing


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(160, [144, 128, 112, 96, 80, 64]), (139, [123, 107, 91, 75]), (96, [80, 64]), (64, []), (32, [])],
)
def test_sizes_go_down_in_steps(size, sizes):
    assert list(resizing.smaller_sizes(size)) == sizes


def test_a_way_is_a_surgery_or_a_size():
    assert resizing.settings_of("image_size(160)") == {"image_size": 160}
    assert resizing.settings_of("prune(0.14, per='flops')") == {"surgery": "prune(0.14, per='flops')"}
    both = {"image_size": 160, "surgery": "prune(0.02, per='flops')"}
    assert resizing.settings_of("image_size(160) | prune(0.02, per='flops')") == both


PHASES = "head | all(epochs=12, lr=0.001, batch_norm=train, image_size={}, augment=crop | flip) | auto"


@pytest.mark.parametrize(
    ("asked", "size", "given"),
    [
        # Six sevenths of the network's own size, rounded up.
        (192, 192, None),
        (192, 160, None),
        (160, 192, 160),
        (128, 192, 128),
        (128, 160, 96),
        (96, 128, 64),
        # More than the run's own is refused where the run's network is trained.
        (256, 160, None),
    ],
)
def test_the_sizes_of_phases_stay_in_proportion(asked, size, given):
    config = Config(phases=PHASES.format(asked))
    expected = PHASES.format(given) if given else PHASES.replace("image_size={}, ", "")
    assert resizing.phases_at(config, 224, size) == expected
    assert resizing.phases_at(config, 224, 224) == config.phases


def test_other_phases_stay_as_they_are_written():
    for text in ("auto", "head|all( epochs=3 )", "all(image_size=half)"):
        assert resizing.phases_at(Config(phases=text), 224, 160) == text


@pytest.mark.large
def test_the_splits_of_two_sizes_are_compared(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(8):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / f"set/{name}/{index}.png")
    config = Config(data=f"folder:{tmp_path / 'set'}", framing="crop", keep_cache=True, cache_dir=str(tmp_path / "c"))
    assert resizing.keeps_splits(config, (64, 32), tmp_path)
    assert not (tmp_path / resizing.SCRATCH).exists()
    # The decoded images of both sizes are kept for the runs.
    assert len([*(tmp_path / "c").glob("*/pictures.bin")]) == 2
