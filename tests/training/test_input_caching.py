"""How the inputs of a phase are cached, where a dtype does not hold the activations."""

import pytest
from conftest import splits_of

from kerasft.networks import network as networks
from kerasft.networks import surgery
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies import planning
from kerasft.training import input_caching, train_setup


@pytest.mark.parametrize("precision", ["mixed_float16", "float32"])
def test_activations_that_the_precision_does_not_hold_are_a_message(photos, tiny, tmp_path, precision):
    config = Config(
        backbone=tiny,
        batch_size=8,
        precision=precision,
        augment="none",
        phases="top(unfreeze='conv_3', epochs=2, views=1)",
    )
    network = networks.build(config, 2, "single_label")
    network = surgery.precision(network, precision)
    layer = network.model.get_layer("conv_1")
    # 65504 is the largest number of float16.
    layer.set_weights([1e6 * array for array in layer.get_weights()])
    setup = train_setup.prepare(config, network, splits_of(f"folder:{photos}"), tmp_path)
    phase = planning.plan(config, network, 30)[0][-1]
    resolved = ResolvedSettings(None, network.size, precision)
    if precision == "float32":
        assert input_caching.prepare(setup, network, "01-top", phase, resolved).outputs is not None
        return
    with pytest.raises(UserError, match=r"--precision: activations .* too large for float16.*'mixed_float16'"):
        input_caching.prepare(setup, network, "01-top", phase, resolved)
