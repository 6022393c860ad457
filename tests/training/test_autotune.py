"""How a run computes is chosen by what was measured, and not where it must not or need not be."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft import strategies
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.training import autotune

# Training images: enough for a precision to be worth measuring.
MANY = 10**9

CPU_TIMING_BATCH = {"backbone": "MobileNet(alpha=0.25)", "weights": "none", "image_size": 32, "batch_size": 4}


@pytest.fixture
def network():
    return networks.build(Config(**CPU_TIMING_BATCH), 3, "single_label")


def _times(monkeypatch, seconds):
    """Steps that take as long as `seconds` says of (precision, batch, compiled); fails where nothing should be measured."""
    clock, steps = [0.0], {}

    def step(network, phase, batch, compiled=False):
        way = network.model.get_layer("conv1").compute_dtype, batch, compiled

        def run():
            took = seconds[way]
            turn = steps[way] = steps.get(way, -1) + 1
            clock.append(clock[-1] + (took[turn] if isinstance(took, tuple) else took))

        return run

    monkeypatch.setattr(autotune, "_step", step)
    monkeypatch.setattr(autotune, "_rival", lambda: "mixed_bfloat16")
    for name in ("monotonic", "process_time"):
        monkeypatch.setattr(autotune.time, name, lambda: clock[-1])


def _on_gpu(monkeypatch):
    monkeypatch.setattr(autotune, "on_accelerator", lambda: True)


@pytest.mark.parametrize(
    ("float32", "half", "policy"), [(1.0, 0.5, "mixed_bfloat16"), (1.0, 0.95, "float32"), (1.0, 2.0, "float32")]
)
def test_the_other_precision_has_to_be_worth_it(network, monkeypatch, float32, half, policy):
    _times(monkeypatch, {("float32", 4, False): float32, ("bfloat16", 4, False): half})
    choice = autotune.precision(Config(**CPU_TIMING_BATCH), network, strategies.full(), MANY)
    assert choice.value == policy
    assert choice.seconds == pytest.approx({"float32": float32, "mixed_bfloat16": half})
    assert f"{float32 / half:.2f} times as fast" in choice.reason


def test_one_lucky_round_is_not_enough(network, monkeypatch):
    """A busy machine made one of several measurements come out for bfloat16, at twice the cost."""
    _times(monkeypatch, {("float32", 4, False): (9.0, 1.0, 1.0, 1.0), ("bfloat16", 4, False): (0.5, 0.7, 0.9, 0.5)})
    choice = autotune.precision(Config(**CPU_TIMING_BATCH), network, strategies.full(), MANY)
    assert choice.value == "float32"
    assert "1.11 times as fast" in choice.reason


def _busy(monkeypatch, cost, noise, seed):
    """A machine on which other processes run: steps of `cost` processor seconds, and the clock says 1 to 6 times as much.

    Threads that wait for each other add up to `noise` of a step to its processor time.
    """
    rng, clocks = np.random.default_rng(seed), {"monotonic": 0.0, "process_time": 0.0}

    def step(network, phase, batch, compiled=False):
        seconds = cost[network.model.get_layer("conv1").compute_dtype]

        def run():
            clocks["process_time"] += seconds * rng.uniform(1, 1 + noise)
            clocks["monotonic"] += seconds * rng.uniform(1, 6)

        return run

    monkeypatch.setattr(autotune, "_step", step)
    monkeypatch.setattr(autotune, "_rival", lambda: "mixed_bfloat16")
    for name in clocks:
        monkeypatch.setattr(autotune.time, name, lambda name=name: clocks[name])


@pytest.mark.large
@pytest.mark.parametrize("noise", [0.2, 1.5])
def test_a_busy_machine_never_chooses_what_costs_twice_as_much(network, monkeypatch, noise):
    half = autotune.surgery.precision(network, "mixed_bfloat16")
    monkeypatch.setattr(autotune.surgery, "precision", lambda _, policy: half if "mixed" in policy else network)
    for seed in range(300):
        _busy(monkeypatch, {"float32": 1.0, "bfloat16": 2.0}, noise, seed)
        choice = autotune.precision(Config(**CPU_TIMING_BATCH), network, strategies.full(), MANY)
        assert choice.value == "float32", (seed, choice)


def test_what_the_clock_calls_slower_is_not_taken(network, monkeypatch):
    """Less processor time, but fewer cores at work: the run would take longer."""
    _times(monkeypatch, {("float32", 4, False): 1.0, ("bfloat16", 4, False): 2.0})
    process, step = [0.0], autotune._step

    def cheaper(network, *given):
        run, took = step(network, *given), 1.0 if network.model.get_layer("conv1").compute_dtype == "float32" else 0.5
        return lambda: (run(), process.append(process[-1] + took))

    monkeypatch.setattr(autotune, "_step", cheaper)
    monkeypatch.setattr(autotune.time, "process_time", lambda: process[-1])
    choice = autotune.precision(Config(**CPU_TIMING_BATCH), network, strategies.full(), MANY)
    assert choice == ("float32", "mixed_bfloat16 is 0.50 times as fast as float32", choice.seconds)
    assert choice.seconds == {"float32": 1.0, "mixed_bfloat16": 0.5}


def test_what_grows_faster_meanwhile_favours_neither(network, monkeypatch):
    """Each step takes 0.6 times as long as the one before: the way that always went second would seem to be worth it."""
    clock = [0.0, 1.0]

    def step(*given):
        return lambda: clock.append(clock[-1] + (clock[-1] - clock[-2]) * 0.6)

    monkeypatch.setattr(autotune, "_step", step)
    monkeypatch.setattr(autotune, "_rival", lambda: "mixed_bfloat16")
    for name in ("monotonic", "process_time"):
        monkeypatch.setattr(autotune.time, name, lambda: clock[-1])
    assert autotune.precision(Config(**CPU_TIMING_BATCH), network, strategies.full(), MANY).value == "float32"


def test_a_step_is_that_of_the_phase(network, monkeypatch):
    seen = []
    call = type(network.model).__call__

    def noted(self, images, *given, **also):
        seen.append(tuple(images.shape))
        return call(self, images, *given, **also)

    monkeypatch.setattr(autotune, "_rival", lambda: "mixed_bfloat16")
    monkeypatch.setattr(type(network.model), "__call__", noted)
    big = networks.build(Config(**CPU_TIMING_BATCH | {"image_size": 64}), 3, "single_label")
    seen.clear()
    autotune.precision(Config(**CPU_TIMING_BATCH | {"batch_size": 12}), big, strategies.full(image_size=32), MANY)
    assert (12, 32, 32, 3) in seen
    assert (12, 64, 64, 3) not in seen


@pytest.mark.parametrize(
    ("settings", "phase", "policy"),
    [
        ({"precision": "mixed_float16"}, strategies.full(), "mixed_float16"),
        ({"deterministic": True}, strategies.full(), "float32"),
        ({"precision": "mixed_bfloat16", "deterministic": True}, strategies.full(), "mixed_bfloat16"),
        ({}, None, "float32"),
    ],
)
def test_nothing_is_measured_without_need(network, monkeypatch, settings, phase, policy):
    _times(monkeypatch, {})
    assert autotune.precision(Config(**CPU_TIMING_BATCH, **settings), network, phase, MANY).value == policy


def test_a_short_training_is_not_worth_measuring(network, monkeypatch):
    """Tracing and timing the steps takes longer than any precision would save."""
    _times(monkeypatch, {})
    choice = autotune.precision(Config(**CPU_TIMING_BATCH), network, strategies.full(epochs=1), 1000)
    assert choice.value == "float32"
    assert "too short" in choice.reason


@pytest.mark.parametrize(
    "phase",
    [strategies.head(epochs=1), strategies.full(batch_norm="train")],
)
@pytest.mark.large
def test_measuring_leaves_the_network_as_it_was(network, phase, monkeypatch):
    monkeypatch.setattr(autotune, "_rival", lambda: "mixed_bfloat16")
    monkeypatch.setattr(autotune, "MIN_SECONDS_FOR_XLA", 0.0)
    _on_gpu(monkeypatch)
    before = network.model.get_weights()
    config = Config(**CPU_TIMING_BATCH | {"batch_size": None})
    precision = autotune.precision(config, network, phase, MANY)
    assert set(precision.seconds) == {"float32", "mixed_bfloat16"}
    size = autotune.batch_size(config, network, phase, 64 * autotune.MIN_STEPS_PER_EPOCH)
    assert set(size.seconds) == {32, 64}
    jit = autotune.compiled(config, network, phase, 4, 10**9)
    assert set(jit.seconds) == {"plain", "compiled"}
    for choice in (precision, size, jit):
        assert all(seconds > 0 for seconds in choice.seconds.values())
    for ours, theirs in zip(network.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not any("kerasft_held" in vars(layer) for layer in network.model.layers)


@pytest.mark.parametrize(
    ("seconds", "examples", "chosen", "reason"),
    [
        ({32: 1.0, 64: 1.9}, 10**5, 32, "64 are 1.05 times as fast as 32"),
        ({32: 1.0, 64: 1.2, 128: 2.2}, 10**5, 64, "128 are 1.09 times as fast as 64"),
        ({32: 1.0, 64: 1.1, 128: 1.2, 256: 1.3}, 10**5, 256, "1.85 times as fast as 128"),
        ({32: 1.0, 64: 1.1, 128: 1.2}, 128 * 32, 128, "1.83 times as fast as 64"),  # 256 would leave 16 steps an epoch
        ({}, 64 * 32 - 1, 32, "2047 examples"),
    ],
)
def test_a_larger_batch_has_to_be_worth_it(network, monkeypatch, seconds, examples, chosen, reason):
    _on_gpu(monkeypatch)
    _times(monkeypatch, {("float32", batch, False): took for batch, took in seconds.items()})
    choice = autotune.batch_size(
        Config(**CPU_TIMING_BATCH | {"batch_size": None}), network, strategies.full(), examples
    )
    assert (choice.value, choice.reason) == (chosen, reason)


def test_a_batch_that_does_not_fit_is_not_taken(network, monkeypatch):
    def measured(ways):
        if 128 in ways:
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")
        return {32: 1.0, 64: 1.0}, 1.0

    _on_gpu(monkeypatch)
    monkeypatch.setattr(autotune, "_measured", measured)
    choice = autotune.batch_size(Config(**CPU_TIMING_BATCH | {"batch_size": None}), network, strategies.full(), 10**5)
    assert (choice.value, choice.reason) == (64, "128 do not fit into memory")


@pytest.mark.parametrize(
    ("settings", "phase", "chosen"),
    [({}, strategies.full(), 4), ({"batch_size": None}, strategies.full(), 32), ({"batch_size": None}, None, 32)],
)
def test_no_batch_is_measured_on_a_cpu_or_where_one_is_named(network, monkeypatch, settings, phase, chosen):
    _times(monkeypatch, {})
    assert autotune.batch_size(Config(**CPU_TIMING_BATCH | settings), network, phase, 10**5).value == chosen


@pytest.mark.parametrize(
    ("plain", "compiled", "steps", "chosen"),
    [
        (1.0, None, autotune.MIN_STEPS_FOR_XLA - 1, "off"),  # not even looked at
        (1.0, None, 599, "off"),  # ten minutes are not reached
        (1.0, 0.5, 600, "on"),
        (1.0, 0.9, 600, "off"),
        (1.0, 7.0, 600, "off"),
    ],
)
def test_steps_are_compiled_where_a_run_is_long_enough_to_win(network, monkeypatch, plain, compiled, steps, chosen):
    _times(monkeypatch, {("float32", 4, False): plain, ("float32", 4, True): compiled})
    choice = autotune.compiled(Config(**CPU_TIMING_BATCH), network, strategies.full(), 4, steps)
    assert choice.value == chosen
    assert len(choice.seconds) == (0 if compiled is None else 2)


@pytest.mark.parametrize(
    ("settings", "phase", "chosen"),
    [
        ({"jit": "on"}, None, "on"),
        ({"jit": "off"}, strategies.full(), "off"),
        ({"deterministic": True}, strategies.full(), "off"),
        ({}, None, "off"),
    ],
)
def test_compiling_is_not_measured_without_need(network, monkeypatch, settings, phase, chosen):
    _times(monkeypatch, {})
    assert autotune.compiled(Config(**CPU_TIMING_BATCH, **settings), network, phase, 4, 10**9).value == chosen


def test_a_step_that_cannot_be_compiled_is_not(network, monkeypatch):
    def step(network, phase, batch, compiled=False):
        if compiled:
            raise tf.errors.UnimplementedError(None, None, "no such operation")
        return lambda: None

    monkeypatch.setattr(autotune, "_step", step)
    monkeypatch.setattr(autotune, "MIN_SECONDS_FOR_XLA", 0.0)
    choice = autotune.compiled(Config(**CPU_TIMING_BATCH), network, strategies.full(), 4, 10**9)
    assert (choice.value, choice.reason) == ("off", "a step could not be compiled (UnimplementedError)")
