"""The blocks that `surgical` trains: those with the largest gradients beside their weights, and written down."""

import json
from dataclasses import replace

import numpy as np
from conftest import splits_of
from training_runs import begun, trained

from kerasft.networks import blocks, surgery
from kerasft.networks import network as networks
from kerasft.optimization import losses
from kerasft.settings.config import Config
from kerasft.strategies import planning
from kerasft.training import block_choice, fitting, health_probe, train_setup


def test_the_block_whose_weights_are_small_beside_their_gradients_is_chosen(photos, tiny, tmp_path):
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    config = Config(backbone=tiny, batch_size=8, head_init="glorot_uniform", phases="surgical(blocks=1)")
    network = networks.build(config, 2, "single_label")
    (phase,) = planning.plan(config, network, 30)[0]
    setup = train_setup.prepare(config, network, data, tmp_path)
    kernel = network.model.get_layer("conv_3").kernel
    # BatchNormalization that is held passes a kernel's scale on, so the gradient stays about the same.
    kernel.assign(np.asarray(kernel) * 1e-3)
    before = network.model.get_weights()
    found = block_choice.resolve(setup, phase)
    assert found.unfreeze == ("conv_3",)
    assert "surgical(blocks=1, layers=('conv_3',), epochs=5" in str(found)
    assert planning.parse(str(found)) == found
    for ours, theirs in zip(network.model.get_weights(), before):
        np.testing.assert_array_equal(ours, theirs)


def test_blocks_and_health_are_measured_by_the_loss_that_trains(photos, tiny, tmp_path, monkeypatch):
    """`class_balanced` has its weights there, too."""
    data, given, build = splits_of(f"folder:{photos}", val=0.2, test=0.2), [], losses.build
    monkeypatch.setattr(losses, "build", lambda *args, **more: given.append(more) or build(*args, **more))
    config = Config(backbone=tiny, batch_size=8, head_init="glorot_uniform", phases="surgical(blocks=1)")
    config = replace(config, loss="class_balanced(beta=0.9)", augment="none", tensorboard=False)
    network = networks.build(config, 2, "single_label")
    (phase,) = planning.plan(config, network, 30)[0]
    expected = np.bincount(data.train.labels, minlength=2)
    setup = train_setup.prepare(config, network, data, tmp_path)
    phase = block_choice.resolve(setup, phase)
    run = begun(network, data, tmp_path, phase, config)
    health_probe.make_probe(run)()
    fitting.build_loss(run)
    assert len(given) == 3
    for one in given:
        np.testing.assert_array_equal(one["counts"], expected)
        assert one["examples"] == len(data.train)


def test_what_was_chosen_is_written_before_it_trains(photos, tiny, tmp_path):
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    run = trained(data, tmp_path / "run", tiny, phases="surgical(blocks=2, epochs=1)", augment="none")
    (text,) = json.loads((tmp_path / "run" / "settled.json").read_text())["phases"]
    phase = planning.parse(text)
    assert len(phase.unfreeze) == 2
    assert run.records[0].spec == text


def test_small_gradients_are_seen_in_half_precision_too(photos, tiny, tmp_path):
    data, found = splits_of(f"folder:{photos}", val=0.2, test=0.2), []
    config = Config(backbone=tiny, batch_size=8, head_init="glorot_uniform", phases="surgical(blocks=1)")
    network = networks.build(config, 2, "single_label")
    for policy in ("float32", "mixed_float16"):
        one = surgery.precision(network, policy)
        (phase,) = planning.plan(config, one, 30)[0]
        setup = train_setup.prepare(config, one, data, tmp_path)
        # 6e-8 is the smallest number of float16.
        setup = replace(setup, example_weights=np.full(len(data.train), 1e-6, np.float32))
        names = blocks.starts(one)
        found.append([*block_choice._ratios(setup, phase, names).values()])
    np.testing.assert_allclose(*found, rtol=0.05)
