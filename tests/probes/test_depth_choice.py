"""`--features=auto`: why the head sees so many depths, and that what is recorded is valid JSON."""

import json
from dataclasses import replace

import numpy as np
from conftest import splits_of

from kerasft.networks import network as networks
from kerasft.probes import depth_choice, folds
from kerasft.settings.config import Config
from kerasft.storage.disk_cache import DiskCache


def test_one_image_of_each_class_gives_a_true_reason_and_no_loss(photos, tmp_path):
    data = splits_of(f"folder:{photos}")
    count = len(data.train)
    one_each = replace(data.train, labels=np.arange(count, dtype=np.int32))
    data = replace(data, train=one_each, classes=tuple(map(str, range(count))))
    config = Config(backbone="MobileNet(alpha=0.25)", weights="bundled", image_size=32)
    network = networks.build(config, count, data.task)
    chosen = depth_choice.choose(config, network, data, DiskCache(tmp_path, 10**9, is_shared=False))
    assert chosen.reason == f"the last depth alone, for {folds.NO_FOLDS}"
    assert len(chosen.table) > 1 and {row["loss"] for row in chosen.table} == {None}
    json.dumps(chosen.table, allow_nan=False)
