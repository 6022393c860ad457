"""Every Keras optimizer by its name: decay, clipping, accumulation, and averages of its weights."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.networks import heads
from kerasft.optimization import averages, optimizers, weight_decay
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError

EVERY = sorted(set(specs.choices(keras.optimizers, keras.optimizers.Optimizer)) - set(optimizers._WRAPPERS))
RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(32, 4)).astype(np.float32), RNG.normal(size=(32, 2)).astype(np.float32)


def _build(text="adamw", schedule="constant", lr=0.1, steps=100, average="none", model=None):
    parsed = specs.parse_one(text, "--optimizer"), specs.parse_one(schedule, "--schedule")
    return optimizers.build(*parsed, lr, steps, specs.parse(average, "--average"), model)


def _model(dtype="float32"):
    layers = keras.layers
    hidden = layers.Dense(8, dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    norm = layers.BatchNormalization(dtype=dtype)
    last = layers.Dense(2, dtype="float32", kernel_initializer=keras.initializers.GlorotUniform(seed=2))
    return keras.Sequential([keras.Input((4,)), hidden, norm, layers.Activation("relu"), last])


def _fitted(text, steps, model=None, batch=32, **settings):
    """A model after so many steps, and its optimizer."""
    model = model or _model()
    built, _ = _build(text, steps=steps, model=model, **settings)
    model.compile(built, "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((INPUTS, TARGETS)).batch(batch).repeat()
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model, built


def test_on_a_plateau_the_optimizer_begins_at_the_peak_rate():
    built, plateau = _build(schedule="plateau(factor=0.1, patience=2)")
    assert float(built.learning_rate) == pytest.approx(0.1)
    # The way that a trainer sets it.
    built.learning_rate = plateau.rate(0.1, [2.0, 2.0, 2.0])
    assert float(built.learning_rate) == pytest.approx(0.01)
    assert _build(schedule="cosine")[1] is None


@pytest.mark.parametrize("name", EVERY)
def test_every_optimizer_of_keras_learns(name):
    model = _model()
    before = float(np.mean((np.asarray(model(INPUTS, training=True)) - TARGETS) ** 2))
    _, built = _fitted(name, 10, model, lr=1e-2)
    assert built.global_clipnorm == optimizers.MAX_NORM
    assert np.mean((np.asarray(model(INPUTS, training=True)) - TARGETS) ** 2) < before


def test_ones_own_clipping_wins():
    assert _build("sgd(clipvalue=0.5)")[0].global_clipnorm is None
    assert _build("sgd(global_clipnorm=5)")[0].global_clipnorm == 5
    assert _build("sgd(clipnorm=5)")[0].global_clipnorm is None


@functools.cache
def _layer_scale():
    """The class of ConvNeXt's layers."""
    network = keras.applications.ConvNeXtTiny(include_top=False, weights=None, input_shape=(32, 32, 3))
    return type(next(layer for layer in network.layers if "layer_scale" in layer.name))


@pytest.mark.parametrize("name", EVERY)
def test_weight_decay_leaves_biases_and_normalisation_alone(name):
    """The names of Keras are not enough: ConvNeXt's LayerScale has a gamma that is called `variable`."""
    layers = keras.layers
    inputs = keras.Input((4, 4, 3))
    hidden = layers.BatchNormalization()(layers.Conv2D(6, 1, bias_initializer="ones")(inputs))
    hidden = heads.GeM()(_layer_scale()(0.5, 6)(layers.LayerNormalization()(hidden)))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    built, _ = _build(f"{name}(weight_decay=0.5)", model=model)
    before = {variable.path: np.asarray(variable) for variable in model.trainable_variables}
    built._apply_weight_decay(model.trainable_variables)
    moved = {v.path for v in model.trainable_variables if not np.array_equal(v, before[v.path])}
    assert {path.rpartition("/")[2] for path in moved} == {"kernel"}
    assert len(moved) == 2


class _Tokens(keras.layers.Layer):
    """What vision transformers add to their patches."""

    def build(self, shape):
        self.cls_token = self.add_weight(shape=(1, 1, shape[-1]), name="cls_token")
        self.position_embedding = keras.layers.Embedding(shape[1], shape[-1], name="position_embedding")
        self.position_embedding.build(())

    def call(self, inputs):
        return inputs + self.position_embedding(keras.ops.arange(inputs.shape[1])) + self.cls_token


def test_weight_decay_leaves_offsets_of_two_dimensions_and_positions_alone():
    layers = keras.layers
    inputs = keras.Input((6, 8))
    tokens = _Tokens()(inputs)
    tokens = layers.LayerNormalization(axis=(1, 2))(layers.MultiHeadAttention(2, 4)(tokens, tokens))
    model = keras.Model(inputs, layers.GRU(5)(tokens))
    kept = {variable.path for variable in weight_decay.excluded(model.trainable_variables)}
    decayed = {variable.path for variable in model.trainable_variables} - kept
    assert {path.rpartition("/")[2] for path in decayed} == {"kernel", "recurrent_kernel"}
    assert len(decayed) == 6
    assert {path.rpartition("/")[2] for path in kept} == {"bias", "gamma", "beta", "embeddings", "cls_token"}


def _stepped(built, model, steps):
    """The weights after so many steps on the same images."""
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(INPUTS, training=True) - TARGETS))
        built.apply(tape.gradient(loss, [variable.value for variable in model.trainable_variables]))
    return model.get_weights()


@pytest.mark.parametrize("name", EVERY)
def test_every_optimizer_goes_on_to_the_bit_from_its_variables(name):
    """What a checkpoint holds is all that there is: the schedule and the averages count on from it."""
    settings = {"schedule": "one_cycle", "lr": 1e-2, "average": "ema"}
    whole, first = _model(), _model()
    built, _ = _build(name, model=whole, **settings)
    expected = _stepped(built, whole, 4)
    begun, _ = _build(name, model=first, **settings)
    _stepped(begun, first, 2)
    again = _model()
    again.set_weights(first.get_weights())
    resumed, _ = _build(name, model=again, **settings)
    for variable, value in zip(resumed.variables, [np.asarray(v) for v in begun.variables], strict=True):
        variable.assign(value)
    for ours, theirs in zip(_stepped(resumed, again, 2), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(averages.averaged(resumed, again), averages.averaged(built, whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weight_decay_is_decoupled():
    model = _model()
    kernel = np.asarray(model.layers[0].kernel)
    built, _ = _build("adamw(weight_decay=0.5)", model=model)
    built.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
    np.testing.assert_allclose(model.layers[0].kernel, kernel * 0.95, rtol=1e-6)


def test_accumulated_gradients_are_those_of_the_large_batch_and_schedules_count_batches():
    plain = _model()
    plain.layers[1].trainable = False  # its statistics would be those of a batch
    weights = plain.get_weights()
    whole, _ = _fitted("sgd", 2, plain, batch=32)
    parts = _model()
    parts.layers[1].trainable = False
    parts.set_weights(weights)
    parts, _ = _fitted("sgd(gradient_accumulation_steps=4)", 8, parts, batch=8)
    for ours, theirs in zip(parts.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    _, built = _fitted("sgd(gradient_accumulation_steps=4)", 8, schedule="linear(warmup=0)")
    assert (int(built.iterations), int(built._iterations)) == (2, 8)
    assert float(built.learning_rate) == 0  # the phase's last batch ends the schedule


@pytest.mark.parametrize("name", ["sgd", "adamw", "Muon"])
def test_averages_are_those_of_the_weights_and_part_of_the_state(name):
    model = _model()
    built, _ = _build(name, lr=0.05, average="ema(momentum=0.8)", model=model)
    for ours, theirs in zip(averages.averaged(built, model), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)  # before the first step
    model.compile(built, "mse", jit_compile=False)
    expected = None
    for _ in range(5):
        model.train_on_batch(INPUTS, TARGETS)
        now = [np.asarray(variable) for variable in model.trainable_variables]
        expected = now if expected is None else [0.8 * a + 0.2 * b for a, b in zip(expected, now)]
    found = averages.averaged(built, model)
    trained = [i for i, weight in enumerate(model.weights) if weight.trainable]
    for index, value in zip(trained, expected, strict=True):
        np.testing.assert_allclose(found[index], value, atol=1e-5)
    for index in set(range(len(found))) - set(trained):  # statistics are averages already
        np.testing.assert_array_equal(found[index], model.get_weights()[index])
    again = _model()
    again.set_weights(model.get_weights())
    other, _ = _build(name, lr=0.05, average="ema(momentum=0.8)", model=again)
    for variable, value in zip(other.variables, [np.asarray(v) for v in built.variables], strict=True):
        variable.assign(value)
    for ours, theirs in zip(averages.averaged(other, again), found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("parts", "accumulated"), [(1, 1), (2, 1), (1, 2)])
def test_swa_is_the_mean_of_the_last_steps(parts, accumulated):
    model, steps = _model(), 8 * accumulated
    spec = specs.parse_one(
        f"sgd(gradient_accumulation_steps={accumulated})" if accumulated > 1 else "sgd", "--optimizer"
    )
    built, _ = optimizers.build(
        spec, specs.Spec("constant"), 0.1, steps, (specs.Spec("swa", (), {"last": 0.4}),), model, parts
    )
    seen = []
    for call in range(8):
        for _ in range(parts * accumulated):
            built.apply([keras.ops.full(v.shape, 0.01 * (call + 1)) for v in model.trainable_variables])
        seen.append(model.get_weights())
        mean = [np.mean(values, 0) for values in zip(*seen[5:])] if call >= 5 else seen[-1]
        for ours, theirs in zip(averages.averaged(built, model), mean, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_swa_goes_on_after_a_fallback_from_its_own_mean():
    """The weights that it fell back to are a mean, and stand for the steps that are in it."""
    average, model = (specs.Spec("swa", (), {"last": 0.5}),), _model()
    built, _ = optimizers.build(specs.Spec("sgd"), specs.Spec("constant"), 0.1, 8, average, model, 1, 6)
    mean = model.get_weights()
    built.apply([keras.ops.ones(v.shape) for v in model.trainable_variables])
    expected = [2 / 3 * a + 1 / 3 * b for a, b in zip(mean, model.get_weights())]
    for ours, theirs in zip(averages.averaged(built, model), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_schedule_free_is_evaluated_at_the_mean_of_its_steps():
    """Defazio et al. 2024: z takes the steps, x is their mean, and the model holds y between the two."""
    model = _model()
    built, _ = _build("ScheduleFreeAdamW(beta_1=0.8)", lr=0.05, model=model)
    seen = []
    for call in range(4):
        built.apply([keras.ops.full(v.shape, float(call - 1)) for v in model.trainable_variables])
        seen.append([np.asarray(z) for z in built._momentums])
    assert averages.averages_steps(built)
    trained = [i for i, weight in enumerate(model.weights) if weight.trainable]
    found, y = averages.averaged(built, model), model.get_weights()
    for index, *z in zip(trained, *seen):
        np.testing.assert_allclose(found[index], np.mean(z, 0), atol=1e-6)
        np.testing.assert_allclose(y[index], 0.2 * z[-1] + 0.8 * found[index], atol=1e-6)


def test_fit_does_not_end_on_the_averages():
    """Keras would write them into the model, and a phase that is fitted in two parts would go on from there."""
    model, built = _fitted("sgd", 5, average="ema(momentum=0.9)")
    found = averages.averaged(built, model)
    assert any(not np.array_equal(a, b) for a, b in zip(found, model.get_weights(), strict=True))


def test_without_averages_the_weights_are_the_models():
    model, built = _fitted("sgd", 2)
    for ours, theirs in zip(averages.averaged(built, model), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_float16_scales_its_loss_and_the_scale_is_part_of_the_state():
    plain = _model("mixed_float16")
    before = float(np.mean((np.asarray(plain(INPUTS, training=True)) - TARGETS) ** 2))
    model, built = _fitted("adamw", 20, plain, lr=1e-2, average="ema")
    assert isinstance(built, keras.optimizers.LossScaleOptimizer)
    assert model.optimizer is built
    assert built.inner_optimizer.global_clipnorm == optimizers.MAX_NORM
    assert np.mean((np.asarray(model(INPUTS, training=True)) - TARGETS) ** 2) < before
    assert any(variable is built.dynamic_scale for variable in built.variables)
    assert len(averages.averaged(built, model)) == len(model.weights)
    tiny = keras.ops.cast(1e-9, "float32")
    assert float(keras.ops.cast(tiny, "float16")) == 0 < float(keras.ops.cast(built.scale_loss(tiny), "float16"))
    scale = float(built.dynamic_scale)
    weights = model.get_weights()
    built.apply([keras.ops.full(v.shape, np.inf) for v in model.trainable_variables])
    assert float(built.dynamic_scale) == scale / 2
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_other_precisions_need_no_scale(dtype):
    built, _ = _build(model=_model(dtype))
    assert not isinstance(built, keras.optimizers.LossScaleOptimizer)


def test_a_rate_of_ones_own_needs_no_config():
    class Constant(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

    built = keras.optimizers.SGD(Constant())
    optimizers._check_numbers(specs.parse_one("sgd", "--optimizer"), built)


@pytest.mark.parametrize(
    ("text", "schedule", "average", "message"),
    [
        ("adamv", "constant", "none", r"--optimizer: must be one of .*did you mean"),
        ("LossScaleOptimizer", "constant", "none", r"--optimizer: must be one of "),
        ("sgd(momentun=0.9)", "constant", "none", r"did you mean 'momentum'"),
        (
            "adamw(weight_decay='a')",
            "constant",
            "none",
            r"--optimizer: weight_decay of adamw\(\) must be a number.*'a'",
        ),
        ("sgd(momentum=0.9, clipnorm='a')", "constant", "none", "--optimizer: "),
        ("adam('a')", "constant", "none", "--optimizer: "),
        ("adam(beta_1='a')", "constant", "none", r"beta_1 of adam\(\) must be a number"),
        ("sgd(gradient_accumulation_steps=2.5)", "constant", "none", r"must be a whole number. Received: 2.5"),
        ("adam(beta_1=abc)", "constant", "none", r"beta_1 of adam\(\) must be a number. Received: 'abc'"),
        ("adam(beta_1=None)", "constant", "none", r"beta_1 of adam\(\) must be a number. Received: None"),
        ("adam(beta_2=1)", "constant", "none", r"beta_2 of adam\(\) must be a number in \[0, 1\)"),
        ("rmsprop(momentum=5)", "constant", "none", r"momentum of rmsprop\(\) must be a number in \[0, 1\)"),
        *(
            (f"adamw(use_ema=True, ema_momentum={value})", "constant", "none", r"must be a number in \(0, 1\)")
            for value in (0, 1.0)
        ),
        (
            "ScheduleFreeAdamW(beta_1=0)",
            "constant",
            "none",
            r"beta_1 of ScheduleFreeAdamW\(\) must be a number in \(0, 1\)",
        ),
        ("adam(epsilon=1e999)", "constant", "none", r"epsilon of adam\(\) must be a number. Received: inf"),
        ("adamw(clipnorm=-1)", "constant", "none", r"clipnorm of adamw\(\) must be a number above 0. Received: -1"),
        ("adamw(global_clipnorm=0)", "constant", "none", r"global_clipnorm of adamw\(\) must be a number above 0"),
        ("adamw(weight_decay=-1)", "constant", "none", r"weight_decay of adamw\(\) must be a number of at least 0"),
        ("adamw(weight_decay=True)", "constant", "none", r"weight_decay of adamw\(\) must be a number. Received: True"),
        ("adamw(amsgrad=abc)", "constant", "none", r"amsgrad of adamw\(\) must be True or False. Received: 'abc'"),
        ("muon(ns_steps=2.5)", "constant", "none", r"ns_steps of muon\(\) must be a whole number"),
        (
            "ftrl",
            "cosine",
            "none",
            r"ftrl\(\) divides by the rate, so --schedule must not begin at 0; .*Received: 'cosine'",
        ),
        ("ftrl", "linear(warmup=0.3)", "none", r"--schedule must not begin at 0"),
        ("adamw", "cosin", "none", r"--schedule: must be one of constant, cosine, .*\(did you mean 'cosine'\?\)"),
        ("adamw", "cosine(warmup=2)", "none", r"warmup must be in \[0, 1\)"),
        ("adamw", "cosine(floor=2)", "none", r"floor must be in \[0, 1\]"),
        ("adamw", "polynomial(power=0)", "none", r"power must be in \(0, 10\]"),
        ("adamw", "polynomial(end=2)", "none", r"end must be in \[0, 1\]"),
        ("adamw", "wsd(warmup=0.5, decay=0.6)", "none", r"decay must be in \(0, 1\], and at most 1 - warmup"),
        ("adamw", "step(at=(0.5, 0.2))", "none", r"at must be rising shares"),
        ("adamw", "step(factor=2)", "none", r"factor must be in \(0, 1\)"),
        ("adamw", "plateau(patience=0)", "none", r"patience must be a whole number of at least 1"),
        ("adamw(learning_rate=1)", "constant", "none", "the learning rate is lr= of a phase, such as --phases="),
        ("adam(lr=1e-3)", "constant", "none", r"lr= of a phase.*Received: 'adam\(lr=0.001\)'"),
        ("sgd(0.01)", "constant", "none", r"lr= of a phase.*Received: 'sgd\(0.01\)'"),
        ("adam(momentum=1)", "constant", "none", "takes"),
        ("adamw", "constant", "emma", r"--average: must be one of ema, soup, swa \(did you mean 'ema'\?\)"),
        ("adamw", "constant", "swa(last=0)", r"last must be in \(0, 1\]"),
        ("adamw", "constant", "ema | swa", r"--average: names one of ema and swa at most. Received: 'ema \| swa'"),
        ("adamw", "constant", "soup | ema | soup", r"--average: names soup once at most"),
        ("adamw", "constant", "ema(momentum=1)", r"momentum must be in \(0, 1\)"),
    ],
)
def test_mistakes_are_refused(text, schedule, average, message):
    with pytest.raises(UserError, match=message):
        _build(text, schedule, average=average)


@pytest.mark.parametrize(
    "text",
    [
        "adam(clipnorm=None, weight_decay=None)",
        "adamw(weight_decay=0, amsgrad=True)",
        "sgd(momentum=0.0, nesterov=False)",
        "muon(exclude_layers=['a'], adam_lr_ratio=0.5)",
        "adafactor(beta_2_decay=-0.5, relative_step=False)",
        "ftrl(learning_rate_power=-0.4)",
    ],
)
def test_what_keras_takes_is_taken(text):
    _build(text, "one_cycle")
    _build(text, "cosine(warmup=0)")


def test_more_gradients_than_a_phase_has_steps_would_train_nothing():
    _build("sgd(gradient_accumulation_steps=8)", steps=8, model=_model())
    rule = r"gradient_accumulation_steps of sgd\(\) must be at most 7, the steps of the phase\. Received: 8"
    with pytest.raises(UserError, match=rule):
        _build("sgd(gradient_accumulation_steps=8)", steps=7, model=_model())
    # Where a step has several calls, steps are counted.
    parsed = specs.parse_one("sgd(gradient_accumulation_steps=8)", "--optimizer"), specs.Spec("constant")
    optimizers.build(*parsed, 0.1, 8, (), _model(), 4)


def _begun(text, schedule, begun, steps=2000, parts=1, average="none", model=None):
    parsed = specs.parse_one(text, "--optimizer"), specs.parse_one(schedule, "--schedule")
    return optimizers.build(*parsed, 0.1, steps, specs.parse(average, "--average"), model, parts, begun)[0]


@pytest.mark.parametrize("name", ["adam", "adamw(weight_decay=0)", "nadam", "lamb(weight_decay=0)", "lion", "rmsprop"])
@pytest.mark.parametrize("begun", [0, 1000])
def test_a_phase_that_falls_back_goes_on_in_its_schedule_with_no_larger_step(name, begun):
    """The optimizer's count corrects Adam's moments: set ahead, constant gradients moved a weight by 5.2 rates."""
    model = _model()
    built = _begun(name, "linear(warmup=0)", begun, model=model)
    other = _model()
    fresh = _begun(name, "constant", 0, model=other)
    for made in (built, fresh):
        made.global_clipnorm = None
    rate = 0.1 * (1 - begun / 2000)
    assert float(built.learning_rate) == pytest.approx(rate)
    for made, of in ((built, model), (fresh, other)):
        made.apply([keras.ops.ones(variable.shape) for variable in of.trainable_variables])
    start = _model().trainable_variables
    moved = [np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(model.trainable_variables, start)]
    usual = [np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(other.trainable_variables, start)]
    np.testing.assert_allclose(moved, np.array(usual) * rate / 0.1, rtol=1e-4)


@pytest.mark.parametrize("parts", [1, 4])
def test_averages_go_on_after_a_fallback_and_move_once_a_step(parts):
    """As the averages of an optimizer that goes on from these weights, whose steps are not done in parts."""

    def steps(built, model, count, calls=1):
        for call in range(count * calls):
            gradients = [keras.ops.full(v.shape, 0.01 * (call // calls + 1)) for v in model.trainable_variables]
            built.apply(gradients)

    going, back = _model(), _model()
    first = _begun("sgd", "constant", 0, average="ema(momentum=0.9)", model=going)
    steps(first, going, 5)
    going.set_weights(averages.averaged(first, going))
    back.set_weights(going.get_weights())
    second = _begun("sgd", "constant", 5, parts=parts, average="ema(momentum=0.9)", model=back)
    for ours, theirs in zip(averages.averaged(second, back), going.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    steps(first, going, 3)
    steps(second, back, 3, parts)
    for ours, theirs in zip(averages.averaged(second, back), averages.averaged(first, going)):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_first_step_in_parts_is_all_of_the_average():
    model = _model()
    built = _begun("sgd", "constant", 0, parts=2, average="ema(momentum=0.9)", model=model)
    for _ in range(2):
        built.apply([keras.ops.ones(v.shape) for v in model.trainable_variables])
    for ours, theirs in zip(averages.averaged(built, model), model.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)
