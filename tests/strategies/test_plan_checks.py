"""What is wrong with the phases of a run is said before an image is read."""

import keras
import numpy as np
import pytest

from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import plan_checks, planning


@pytest.fixture(scope="module")
def pretrained():
    built = networks.build(Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32), 3, "single_label")
    return built._replace(pretrained=True, head_init="probe")


def test_what_the_phases_name_is_built_once(pretrained):
    phase = plan_checks.check(Config(phases="head(epochs=2) | all(epochs=7)"), pretrained)
    assert phase.epochs == 7
    # The further phase of `auto` may be left out.
    assert plan_checks.check(Config(), pretrained, 1200).epochs == 9
    assert plan_checks.check(Config(phases="head"), pretrained) is None
    # A head on cached features tells nothing of a step of the whole network.
    assert plan_checks.check(Config(phases="head(epochs=99) | all(epochs=7)"), pretrained).strategy == "all"
    assert plan_checks.check(Config(phases="head(epochs=99)"), pretrained) is None


def test_mixing_is_checked_against_the_loss_and_the_task(pretrained):
    flags = {"phases": "all(epochs=1)", "augment": "flip | cutmix"}
    assert plan_checks.check(Config(**flags), pretrained).epochs == 1
    with pytest.raises(UserError, match="--loss: SparseCategoricalCrossentropy needs whole labels"):
        plan_checks.check(Config(**flags, loss="SparseCategoricalCrossentropy"), pretrained)
    with pytest.raises(UserError, match="--augment: cutmix mixes labels, which regression does not have"):
        plan_checks.check(Config(**flags), pretrained._replace(task="regression"))


def test_a_phase_has_enough_steps_for_one_update(pretrained):
    flags = {"optimizer": "adam(gradient_accumulation_steps=12)", "batch_size": 16}
    rule = (
        r"--optimizer: gradient_accumulation_steps of adam\(\) must be at most 8, the steps of the phase\. Received: 12"
    )
    for phases, network in (
        ("head(epochs=2)", pretrained),
        ("all(epochs=9) | top(0.3, epochs=2)", pretrained),
        # `auto` trains it for five epochs.
        ("auto", pretrained._replace(head_init="zeros")),
    ):
        examples = 16 if phases == "auto" else 64
        expected = rule.replace("8", "5") if phases == "auto" else rule
        with pytest.raises(UserError, match=expected):
            plan_checks.check(Config(phases=phases, **flags), network, examples)
    for phases in ("head | all(epochs=3)", "auto", "head(epochs=2, optimizer=sgd) | all(epochs=9)"):
        plan_checks.check(Config(phases=phases, **flags), pretrained, 64)


@pytest.mark.parametrize("layer", ["RandomCrop(24, 24)", "Resizing(16, 24)", "CenterCrop(24, 24)", "RandomGrayscale"])
def test_a_layer_that_changes_the_size_is_refused(pretrained, layer):
    flags = {"phases": "all(epochs=1, image_size=32)", "augment": f"flip | {layer}"}
    if layer == "RandomGrayscale":
        assert plan_checks.check(Config(**flags), pretrained).epochs == 1
        return
    name, given = layer.partition("(")[0], "16 x 24 x 3" if "16" in layer else "24 x 24 x 3"
    rule = (
        f"{name} must leave images as large as they are, 32 x 32 x 3; it makes them {given}. Received: 'flip | {name}"
    )
    with pytest.raises(UserError) as caught:
        plan_checks.check(Config(**flags), pretrained)
    assert str(caught.value).startswith(f"--augment: {rule}")
    whole = layer.replace("16", "32").replace("24", "32")
    assert plan_checks.check(Config(**flags | {"augment": whole}), pretrained).epochs == 1


def test_a_quantile_needs_a_phase_that_learns_it(pretrained):
    network = pretrained._replace(task="regression")
    flags = {"loss": "pinball(0.9)", "augment": "none"}
    assert plan_checks.check(Config(phases="all(epochs=1)", **flags), network).epochs == 1
    with pytest.raises(UserError, match=r"--loss: a phase with epochs is needed .*Received: 'pinball\(0.9\)'"):
        plan_checks.check(Config(phases="head", **flags), network)
    for loss, phase in (("auto", "pinball(0.9)"), ("pinball(0.9)", "mse"), ("pinball(0.9)", "pinball(0.1)")):
        with pytest.raises(UserError, match="--phases: a phase's own loss cannot predict another quantile"):
            plan_checks.check(Config(phases=f"all(epochs=1, loss={phase})", loss=loss, augment="none"), network)


def test_a_network_that_bears_no_other_size_keeps_its_own(flat):
    network = networks.build(Config(backbone=flat), 3, "single_label")
    planned, _ = planning.plan(Config(), network._replace(pretrained=True), 1200)
    assert not any(phase.image_size for phase in planned)
    with pytest.raises(UserError, match=r"--phases: layers of .* fit images of 64 pixels, not of this size"):
        plan_checks.check(Config(phases="all(image_size=32)"), network)


@keras.saving.register_keras_serializable("test_plan_checks")
class RunningMean(keras.layers.Layer):
    """Subtracts a mean that follows the batches, in training and out of it where it is not asked."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(inputs, (0, 1, 2)))
        return inputs - self.mean


@keras.saving.register_keras_serializable("test_plan_checks")
class AskedMean(RunningMean):
    def call(self, inputs, training=False):
        return super().call(inputs) if training else inputs - self.mean


@pytest.mark.parametrize("kind", [RunningMean, AskedMean])
def test_a_layer_that_changes_itself_cannot_be_frozen(kind, tmp_path):
    inputs = keras.Input((32, 32, 3))
    hidden = keras.layers.Conv2D(4, 3)(kind(name="running")(keras.layers.Rescaling(1 / 255)(inputs)))
    keras.Model(inputs, hidden).save(tmp_path / "theirs.keras")
    network = networks.build(Config(backbone=str(tmp_path / "theirs.keras"), head_init="zeros"), 3, "single_label")
    assert plan_checks.check(Config(phases="all(epochs=1)", augment="none"), network).epochs == 1
    for phases in ("head(epochs=1)", "all | bias", "top(0.3) | all"):
        if kind is AskedMean:
            plan_checks.check(Config(phases=phases, augment="none"), network)
            continue
        rule = r"the layer running \(RunningMean\) changes its own weights although it is frozen; give its call"
        with pytest.raises(UserError, match=rf"--phases: {rule}.*Received: '(head|bias|top)\("):
            plan_checks.check(Config(phases=phases, augment="none"), network)
    np.testing.assert_array_equal(network.model.get_layer("running").mean, 0)


def test_images_are_not_enlarged_for_a_phase(pretrained):
    with pytest.raises(
        UserError, match=r"image_size must be at most the network's 32 \(--image_size\). Received: 'all"
    ):
        plan_checks.check(Config(phases="all(image_size=64)"), pretrained)
