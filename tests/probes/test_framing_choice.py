"""`--framing=auto`: what the probe on training images chooses, and what is taken where nothing can be measured."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kerasft.data.splits import Split, Splits
from kerasft.networks import network as networks
from kerasft.probes import framing_choice, sampling
from kerasft.settings.config import Config
from kerasft.storage.disk_cache import DiskCache

DATASET = {"backbone": "MobileNet(alpha=0.25)", "weights": "bundled", "image_size": 32, "preprocessing": "dataset"}
COLOURS = np.array([[230, 40, 40], [40, 40, 230]], np.float32)


def _wide(label, seed, place):
    """A noisy image of 32x96 pixels with a block in the colour of its label, at the edge or in the centre."""
    image = np.random.default_rng(seed).uniform(60, 190, (32, 96, 3))
    left = {"edge": 0, "centre": 40}[place]
    image[8:24, left : left + 16] = COLOURS[0] * (1 - label) + COLOURS[1] * label
    buffer = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _splits(task, count, place):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, count) if task == "single_label" else rng.uniform(0, 1, count)
    labels, classes = {
        "single_label": (values.astype(np.int32), ("red", "blue")),
        "multi_label": (np.float32(values[:, None] > [[0.5, 0.3]]), ("blue", "bluish")),
        "regression": (np.float32(values[:, None]), ("blueness",)),
    }[task]
    split = Split(
        np.arange(count).astype(str), labels, lambda i: _wide(values[i], i, place), None, digest=f"{task} {place}"
    )
    return Splits("wide", task, split, split, split, classes, (), "0")


def _choose(data, tiny, folder, **settings):
    config = Config(**{"backbone": tiny} | settings)
    network = networks.build(config, len(data.classes), data.task)
    return framing_choice.choose(config, network, data, DiskCache(folder, int(1e9), is_shared=False))


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_a_subject_at_the_edge_is_not_cropped(task, tiny, tmp_path, capsys):
    chosen = _choose(_splits(task, 36, "edge"), tiny, tmp_path)
    assert chosen.framing != "crop"
    assert [set(row) for row in chosen.table] == [{"choice", "loss", "seconds"}] * 3
    rows = {row["choice"]: row for row in chosen.table}
    assert set(rows) == {"crop", "pad", "squash"}
    assert rows[chosen.framing]["loss"] < 0.7 * rows["crop"]["loss"]
    framing_choice.say(chosen)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"framing: {chosen.framing} (a probe on 36 training images")
    assert "the loss of crop is" in line


def test_crop_is_kept_where_nothing_is_measurably_better(tiny, tmp_path):
    chosen = _choose(_splits("single_label", 36, "centre"), tiny, tmp_path)
    assert chosen.framing == "crop"
    assert [set(row) for row in chosen.table] == [{"choice", "loss", "accuracy", "seconds"}] * 3


@pytest.mark.parametrize(
    ("count", "settings", "words"),
    [
        (sampling.MIN_IMAGES - 1, {}, "29 training images"),
        (36, DATASET, "--preprocessing=dataset"),
    ],
)
def test_what_cannot_be_measured_loses_nothing(count, settings, words, tiny, tmp_path, capsys):
    chosen = _choose(_splits("single_label", count, "edge"), tiny, tmp_path, **settings)
    assert chosen.framing == framing_choice.UNMEASURED != "crop"
    assert words in chosen.reason
    assert chosen.table == []
    framing_choice.say(chosen)
    assert capsys.readouterr().out == f"framing: {chosen.framing} ({chosen.reason})\n"


def test_random_weights_cannot_tell(tiny, tmp_path):
    data = _splits("single_label", 36, "edge")
    config = Config(backbone=tiny)
    network = networks.build(config, 2, data.task)._replace(pretrained=False)
    chosen = framing_choice.choose(config, network, data, DiskCache(tmp_path, 0, is_shared=False))
    assert chosen.framing == framing_choice.UNMEASURED
    assert "without pretrained weights" in chosen.reason


def test_classes_of_one_image_each_cannot_tell(tiny, tmp_path):
    data = _splits("single_label", 36, "edge")
    split, classes = replace(data.train, labels=np.arange(36, dtype=np.int32)), tuple(map(str, range(36)))
    chosen = _choose(replace(data, train=split, classes=classes), tiny, tmp_path)
    assert (chosen.framing, chosen.table) == (framing_choice.UNMEASURED, [])
    assert "no training image can be held out" in chosen.reason


def test_the_gap_is_that_of_the_framing_that_is_taken():
    """`pad` has the lowest loss, and `squash` is not measurably worse."""
    crop, squash, pad = np.array([2.0, 2.2, 1.8]), np.array([1.0, 1.2, 0.8]), np.array([0.9, 1.3, 0.7])
    said = framing_choice._reason(1, [crop, squash, pad], 36)
    assert "the loss of crop is 1.0000 higher, standard error" in said
    assert framing_choice._reason(0, [pad, crop, squash], 36).endswith(": the lowest loss")
