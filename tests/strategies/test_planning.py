"""The rule of `auto`: what it makes of the number of examples, the network's size, and the measured speed."""

import pytest

from kerasft.networks import depths
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import auto, caching, planning
from kerasft.training import weight_interpolation


@pytest.fixture(scope="module")
def pretrained():
    built = networks.build(Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32), 3, "single_label")
    return built._replace(pretrained=True, head_init="probe")


@pytest.mark.parametrize(("examples", "epochs"), [(40, 100), (100, 34), (150, 30), (400, 25), (1200, 9), (20_000, 3)])
def test_about_three_hundred_steps(pretrained, examples, epochs):
    planned, why = planning.plan(Config(), pretrained, examples)
    assert [(phase.strategy, phase.epochs) for phase in planned] == [("head", 0), ("all", epochs), ("all", 3 * epochs)]
    assert [phase.conditional for phase in planned] == [False, False, True]
    assert f"{examples} examples" in why


def test_images_far_from_the_pretraining_are_learned_at_a_higher_rate_and_none_need_a_further_phase(pretrained):
    unknown, _ = planning.plan(Config(), pretrained, 1200)
    (_, far), why = planning.plan(Config(), pretrained, 1200, shift=0.18)
    assert (far.lr, far.epochs) == (pytest.approx(3 * unknown[1].lr, rel=0.02), unknown[1].epochs)
    assert "at 3 times the rate, for the images are far from those of the pretraining (shift 0.18)" in why
    assert unknown[1].stop_if_losing
    assert not far.stop_if_losing
    (_, short), why = planning.plan(Config(), pretrained, 20_000, speed=40.0, shift=0.3)
    assert (short.epochs, "an epoch of 20000 examples" in why, "at 3 times the rate" in why) == (1, True, True)
    (_, unscaled), _ = planning.plan(Config(lr_scaling="none"), pretrained, 1200, shift=0.3)
    assert unscaled.lr == 0.003


def test_near_images_train_the_last_half_of_the_blocks_and_keep_their_size(pretrained):
    unknown, _ = planning.plan(Config(), pretrained, 1200)
    (_, near), why = planning.plan(Config(), pretrained, 1200, shift=0.05)
    assert (near.strategy, near.unfreeze, near.epochs, near.lr) == ("top", 0.5, 9, unknown[1].lr)
    assert (
        "the last half of the blocks for 9 epochs, for the images are near those of the pretraining (shift 0.05)" in why
    )
    assert near.stop_if_losing
    quick, slow = (planning.plan(Config(), pretrained, 1200, 100.0, shift)[1] for shift in (0.05, 0.18))
    assert ("about 144 s" in quick, "about 432 s" in slow) == (True, True)
    sizes = [planning.plan(Config(), _of_size(224), 1200, shift=shift)[0][1].image_size for shift in (0.05, 0.18)]
    assert sizes == [None, 192]


@pytest.mark.parametrize(
    ("settings", "examples"),
    [
        ({}, 20_000),
        ({}, 100),
        ({"augment": "mixup"}, 1200),
        ({"surgery": "activation(relu=swish, blend=500)"}, 1200),
        ({"teacher": "runs/large"}, 1200),
        ({"average": "soup(runs='runs/a')"}, 1200),
        ({"image_size": 32}, 1200),
    ],
)
def test_near_images_train_all_layers_where_little_could_be_cached_or_all_must_learn(pretrained, settings, examples):
    (_, phase), why = planning.plan(Config(**settings), pretrained, examples, shift=0.05)
    assert phase.strategy == "all"
    assert "fine-tune all layers" in why


def test_near_images_train_all_layers_where_the_hour_is_too_short_for_the_cache_or_the_cache_saves_little(
    pretrained, monkeypatch
):
    (_, enough), _ = planning.plan(Config(), pretrained, 1200, speed=4.0, shift=0.05)
    assert (enough.strategy, enough.epochs) == ("top", 9)
    (_, few), why = planning.plan(Config(), pretrained, 1200, speed=2.0, shift=0.05)
    assert (few.strategy, few.epochs) == ("all", 1)
    assert (
        "an epoch of 1200 examples takes about 2400 s here: solve the head, then fine-tune all layers for 1 epoch"
        in why
    )
    monkeypatch.setattr(caching, "MAX_WORK_RATIO", 0.01)
    (_, uncached), _ = planning.plan(Config(), pretrained, 1200, shift=0.05)
    assert (uncached.strategy, uncached.epochs) == ("all", 9)


def test_a_shift_that_is_assumed_is_not_called_measured(pretrained):
    (_, near), why = planning.plan(Config(), pretrained, 1200, shift=0.0, is_measured=False)
    assert near.strategy == "top"
    assert "for 9 epochs, if the images are near those of the pretraining, which the run measures" in why
    assert "shift 0" not in why


def test_a_taught_student_trains_three_times_as_long(pretrained):
    planned, why = planning.plan(Config(teacher="runs/large"), pretrained, 1200)
    assert [(phase.strategy, phase.epochs) for phase in planned] == [("head", 0), ("all", 27), ("all", 27)]
    assert "all layers for 27 epochs" in why


def test_a_measured_speed_bounds_the_time_and_is_said(pretrained):
    quick, why = planning.plan(Config(), pretrained, 20_000, speed=1000.0)
    assert quick[1].epochs == 3
    assert "about 240 s" in why
    slow, why = planning.plan(Config(), pretrained, 20_000, speed=40.0)
    assert slow[1].epochs == 1
    assert "an epoch of 20000 examples takes about 2000 s" in why
    assert not any(phase.conditional for phase in slow)


def test_a_head_on_several_depths_has_a_lower_rate(pretrained):
    assert planning.plan(Config(), pretrained, 400)[0][1].head_lr == 1
    several = depths.with_depths(pretrained, Config(), depths.find_depths(pretrained)[-3:])
    widths = depths.widths(several)
    (_, *fine_tuning), _ = planning.plan(Config(), several, 400)
    assert [phase.head_lr for phase in fine_tuning] == pytest.approx([widths[-1] / sum(widths)] * 2, rel=0.05)
    named, _ = planning.plan(Config(phases="head | all(epochs=3, head_lr=auto) | all(head_lr=2)"), several, 400)
    assert [phase.head_lr for phase in named] == [1, fine_tuning[0].head_lr, 2]
    with pytest.raises(UserError, match=r"head_lr must be auto, or a number in \(0, 1000\]"):
        planning.plan(Config(phases="all(head_lr=automatic)"), several, 400)


def test_many_classes_take_more_steps(pretrained):
    many = networks.build(Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32), 400, "single_label")
    planned, _ = planning.plan(Config(), many._replace(pretrained=True, head_init="probe"), 8000)
    assert planned[1].epochs == 5  # 250 steps each: an example of a class is seen 100 times


@pytest.mark.parametrize(
    ("alpha", "after", "expected"), [(1.0, 0.5, True), (1.0, 0.6, True), (1.0, 0.61, False), (0.75, 0.1, False)]
)
def test_a_further_phase_follows_one_that_was_kept_whole_and_gained_much(alpha, after, expected):
    assert auto.gained_enough(alpha, 1.0, after) is expected


def test_auto_may_follow_named_phases(pretrained):
    planned, why = planning.plan(Config(phases="head(epochs=4, lr=1e-2) | auto"), pretrained, 1200)
    assert [(phase.strategy, phase.epochs) for phase in planned] == [("head", 4), ("all", 9), ("all", 27)]
    assert "what is named, then fine-tune all layers for 9 epochs" in why
    planned, _ = planning.plan(Config(phases="top(0.3) | auto"), pretrained, 1200)
    assert [(phase.strategy, phase.epochs) for phase in planned] == [("head", 0), ("top", 5), ("all", 9), ("all", 27)]
    with pytest.raises(UserError, match=r"--phases: auto stands once, and has no arguments. Received: 'auto | auto'"):
        planning.plan(Config(phases="auto | auto"), pretrained, 1200)


@pytest.mark.parametrize("head_init", ["zeros", "prior", "he_normal"])
def test_auto_trains_a_head_that_is_not_solved(pretrained, head_init):
    network = pretrained._replace(head_init=head_init)
    planned, why = planning.plan(Config(), network, 1200)
    assert [(phase.strategy, phase.epochs) for phase in planned] == [("head", 5), ("all", 9), ("all", 27)]
    assert "train the head for 5 epochs, then fine-tune all layers for 9 epochs" in why
    # The head is trained, too, where the validation split can judge nothing.
    (alone,) = weight_interpolation.judgeable(planned, 3, solved=False)
    assert (alone.strategy, alone.epochs) == ("head", 5)
    planned, _ = planning.plan(Config(phases="top(0.3) | auto"), network, 1200)
    assert [(phase.strategy, phase.epochs) for phase in planned] == [("top", 5), ("all", 9), ("all", 27)]


def test_what_auto_writes_down_under_a_solved_head_is_as_before(pretrained):
    (head, *_), why = planning.plan(Config(), pretrained, 1200)
    assert "solve the head, then fine-tune" in why
    assert str(head).startswith("head(epochs=0, optimizer=")


def test_a_head_that_follows_what_trains_is_trained(pretrained):
    def epochs(phases):
        return [phase.epochs for phase in planning.plan(Config(phases=phases), pretrained, 1200)[0]]

    assert epochs("head") == [0]
    assert epochs("head | all(epochs=2)") == [0, 2]
    assert epochs("all(epochs=2) | head") == [0, 2, 5]
    assert epochs("all(epochs=2) | head(epochs=0)") == [0, 2, 0]
    assert epochs("auto | head") == [0, 9, 27, 5]
    assert epochs("head | head(lr=0.01, loss=focal)") == [0, 5]
    assert epochs("head(epochs=0) | head") == [0, 5]


@pytest.mark.parametrize(
    "given",
    [
        *("lr=0.1", "loss=focal", "augment=flip", "views=3", "l2sp=0.1", "sam=0.1", "agc=0.1"),
        *("optimizer=sgd", "schedule=constant"),
    ],
)
def test_a_solved_head_takes_nothing_that_trains_one(pretrained, given):
    name = given.partition("=")[0]
    rule = rf"--phases: head\({name}=\) needs epochs=, for this head is solved by --head_init=probe and not trained\. Received: 'head\("
    with pytest.raises(UserError, match=rule):
        planning.plan(Config(phases=f"head({given}) | all"), pretrained, 1200)
    for phases, network in (
        (f"head({given}, epochs=2)", pretrained),
        (f"head | head({given})", pretrained),
        (f"head({given})", pretrained._replace(head_init="zeros")),
    ):
        planning.plan(Config(phases=phases), network, 1200)


def test_named_phases_may_follow_auto(pretrained):
    config = Config(phases="auto | quantised(epochs=2)")
    planned, why = planning.plan(config, pretrained, 1200)
    strategies = [(phase.strategy, phase.epochs) for phase in planned]
    assert strategies == [("head", 0), ("all", 9), ("all", 27), ("quantised", 2)]
    assert why.endswith("27 more if that gains much, then what is named after it")
    assert planning.count_before_auto(config, pretrained) == 0
    assert planning.count_after_auto(config) == 1
    assert not planning.trains_few(config)
    assert not planning.trains_few(Config(phases="head | quantised"))


def test_larger_networks_take_smaller_steps(pretrained):
    large = networks.build(Config(backbone="MobileNet(alpha=1.0)", weights="none", image_size=32), 3, "single_label")
    rates = [
        planning.plan(Config(), network._replace(pretrained=True, head_init="probe"), 100)[0][1].lr
        for network in (pretrained, large)
    ]
    assert rates[0] > 2 * rates[1]


def test_rates_that_auto_chose_are_scaled_with_the_batch(pretrained):
    def rate(examples=1000, **flags):
        return planning.plan(Config(**flags), pretrained, examples)[0][1].lr

    own = rate()
    assert rate(batch_size=128) == pytest.approx(2 * own)
    assert rate(batch_size=8) == pytest.approx(own / 2)
    assert rate(batch_size=128, optimizer="sgd(momentum=0.9)") == pytest.approx(4 * own)
    assert rate(batch_size=128, lr_scaling="none") == own
    # There are no more images than 40 for a step, or than 20.
    assert rate(40, batch_size=128) == pytest.approx(own * (40 / 32) ** 0.5, rel=1e-2)
    assert rate(20) == rate(20, batch_size=128) == own
    written, _ = planning.plan(Config(phases="all(epochs=1, lr=2e-4)", batch_size=128), pretrained, 1000)
    assert written[-1].lr == 2e-4


def test_without_pretrained_weights_all_layers_learn_from_the_start(pretrained):
    (phase,), why = planning.plan(Config(), pretrained._replace(pretrained=False, head_init="glorot_uniform"), 400)
    assert (phase.strategy, phase.batch_norm) == ("all", "train")
    assert "no pretrained weights" in why


@pytest.mark.parametrize(
    ("phases", "backbone", "most"),
    [
        ("auto", True, 3),
        ("head", False, 1),
        ("head(epochs=3) | head", False, 2),
        ("all", True, 2),
        ("auto | quantised", True, 4),
    ],
)
def test_what_the_phases_may_be_is_known_before_they_are_planned(pretrained, phases, backbone, most):
    config = Config(phases=phases)
    assert planning.trains_backbone(config) == backbone
    assert planning.count_at_most(config, pretrained) == most >= len(planning.plan(config, pretrained, 400)[0])


def _of_size(size):
    built = networks.build(Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=size), 3, "single_label")
    return built._replace(pretrained=True, head_init="probe")


@pytest.mark.parametrize(("size", "expected"), [(224, 192), (256, 224), (96, None), (240, None)])
def test_fine_tuning_sees_somewhat_smaller_images(size, expected):
    network = _of_size(size)
    planned, why = planning.plan(Config(), network, 1200)
    assert [phase.image_size for phase in planned] == [None, expected, expected]
    assert (f"on images of {expected} pixels" in why) == (expected is not None)
    planned, _ = planning.plan(Config(augment="flip"), network, 1200)  # nothing enlarges them
    assert not any(phase.image_size for phase in planned)


def test_a_smaller_size_is_in_the_time_that_is_said():
    def said(augment):
        return planning.plan(Config(augment=augment), _of_size(224), 1000, speed=100.0)[1]

    assert "about 400 s" in said("flip")
    assert f"about {400 * (192 / 224) ** 2:.0f} s" in said("auto")
