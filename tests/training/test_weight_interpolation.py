"""What a phase leaves behind: its weights, a mix, or nothing of it; and where validation hardly tells anything."""

import warnings

import numpy as np
import pytest
from training_runs import vectors

from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.evaluation.scoring import Scorer
from kerasft.strategies.phase import Phase
from kerasft.training import weight_interpolation

PLANNED = [
    Phase(strategy="head", unfreeze=0, epochs=9, lr=1e-3),
    Phase(strategy="all", unfreeze=1.0, epochs=30, lr=1e-4),
    Phase(strategy="all", unfreeze=1.0, epochs=90, lr=1e-4, conditional=True),
]


@pytest.fixture
def run(tmp_path):
    return vectors(tmp_path)


def _weights(scale):
    return [np.eye(3, dtype=np.float32) * scale, np.zeros(3, np.float32)]


def _kept(run, first, candidates):
    """What is kept of candidates; the model has it afterwards."""
    given = run.model, run.inputs.outputs, run.setup.scorer, first, candidates, run.phase.alphas
    return weight_interpolation.keep_best(*given)


def _judge(run, first, last):
    """The alpha, temperature and score of a phase that led from first to last weights."""
    run.model.set_weights(first)
    run.state.initial_score = run.validate()
    run.model.set_weights(last)
    run.state.best_score = None
    run.keep_if_best(run.validate())
    chosen = _kept(run, first, [last] if run.state.best_score else [])
    return chosen._replace(score=chosen.score or run.state.initial_score)[:3]


def test_what_does_not_help_is_undone_to_the_bit(run):
    first = _weights(2.0)
    alpha, heat, score = _judge(run, first, [-weight for weight in _weights(3.0)])
    assert (alpha, heat) == (0.0, 1.0)
    assert score == run.state.initial_score
    for ours, theirs in zip(run.model.get_weights(), first, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_undone_says_what_was_judged_and_what_it_missed(run):
    first = _weights(2.0)
    run.model.set_weights(first)
    before = run.validate()[0]
    undone = _kept(run, first, [_weights(2.0001)])
    assert undone.alpha == 0 and undone.refused["share"] == run.phase.alphas[0]
    assert undone.refused["loss"] > undone.refused["needed"]
    assert undone.refused["needed"] == pytest.approx(before * (1 - weight_interpolation.MIN_RELATIVE_GAIN), rel=1e-2)
    assert _kept(run, _weights(0.0), [_weights(2.0)]).refused is None


def test_what_did_not_train_stays_to_the_bit_under_any_share():
    frozen = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for alpha in np.linspace(0.05, 0.95, 19).tolist():
        kept, moved = weight_interpolation.mixed([frozen, np.zeros(1)], [frozen.copy(), np.ones(1)], alpha)
        np.testing.assert_array_equal(kept, frozen)
        assert moved == pytest.approx(alpha)


def test_what_helps_is_kept(run):
    alpha, _, score = _judge(run, _weights(-1.0), _weights(2.5))
    assert alpha >= 0.5
    assert score[0] < 0.7
    assert run.validate()[0] == pytest.approx(score[0], rel=1e-5)


def test_overconfidence_is_tempered(run):
    alpha, heat, score = _judge(run, _weights(-40.0), _weights(40.0))
    assert alpha > 0.5
    assert heat > 4
    assert score[0] < 1
    assert run.validate()[0] == pytest.approx(score[0], rel=1e-5)


def test_between_equals_half_way_is_taken(run):
    better = _weights(2.5)
    # Each mix is as good at its temperature.
    half, _, _ = _judge(run, [better[0] * 0.01, better[1]], better)
    assert half == 0.5
    # Half way is measurably worse.
    whole, _, _ = _judge(run, [np.roll(better[0], 1, 0) * 3, better[1]], better)
    assert whole > 0.5
    none, _, _ = _judge(run, better, [better[0] + np.float32(1e-3) * np.eye(3, dtype=np.float32), better[1]])
    assert none == 0


def test_the_end_of_a_phase_is_preferred_to_its_best_epoch_unless_measurably_worse(run):
    first, good = _weights(0.0), _weights(2.5)
    lucky = [good[0] * np.float32([1.02, 1, 1]), good[1]]
    spoiled = [np.roll(good[0], 1, 0), good[1]]

    def candidate(*candidates):
        return _kept(run, first, [*candidates]).candidate

    assert candidate(good, lucky) == candidate(lucky, good) == 0
    assert candidate(spoiled, good) == 1
    assert candidate([weight * np.nan for weight in good], good) == 1
    kernel = run.model.get_weights()[0]
    np.testing.assert_allclose(kernel / kernel.max(), np.eye(3), atol=1e-6)


def test_a_better_temperature_alone_is_no_merit(run):
    """The phase only scales the logits towards their best temperature: nothing that tempering could not do."""
    alpha, heat, score = _judge(run, _weights(12.0), _weights(6.0))
    assert (alpha, heat) == (0.0, 1.0)
    assert score == run.state.initial_score


def test_a_solved_head_is_kept_whatever_few_images_say(run):
    """Before it there is nothing that answers."""
    first, worse = _weights(0.0), [-weight for weight in _weights(3.0)]
    given = run.model, run.inputs.outputs, run.setup.scorer, first, [worse], (1.0,)
    assert weight_interpolation.keep_best(*given).alpha == 0
    chosen = weight_interpolation.keep_best(*given, may_undo=False)
    assert chosen.alpha == 1
    assert chosen.score[0] < 2 * np.log(3)
    np.testing.assert_allclose(run.model.get_weights()[0], worse[0] / chosen.temperature, rtol=1e-6)


def test_nothing_finite_is_nothing_kept(run):
    first = _weights(1.0)
    alpha, _, _ = _judge(run, first, [weight * np.nan for weight in _weights(1.0)])
    assert alpha == 0
    np.testing.assert_array_equal(run.model.get_weights()[0], first[0])


@pytest.mark.parametrize("images", [1, 2, MIN_VALIDATION_IMAGES - 1])
def test_few_images_choose_nothing(images):
    """The end of the phase as it is, without a temperature, and without a warning of NumPy's."""
    labels = np.arange(images) % 2
    scorer = Scorer("single_label", labels)

    def outputs_at(candidate, alpha):
        return (1 - 2 * alpha) * 9.0 * np.eye(2)[labels]  # whatever the losses say

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = weight_interpolation.choose(outputs_at, scorer, 2, (0.5, 0.75, 0.25, 1.0))
    assert chosen[:2] == (1.0, 1.0)
    assert chosen.candidate == 0
    unfit = weight_interpolation.choose(lambda candidate, alpha: np.full((images, 2), np.nan), scorer, 2, (1.0,))
    assert unfit == weight_interpolation.UNDONE


def test_under_five_images_the_solved_head_stands_and_nothing_follows():
    assert weight_interpolation.judgeable(PLANNED, MIN_VALIDATION_IMAGES, solved=True) == PLANNED
    (only,) = weight_interpolation.judgeable(PLANNED, MIN_VALIDATION_IMAGES - 1, solved=True)
    assert (only.strategy, only.epochs) == ("head", 0)
    # An answer is needed at all.
    assert weight_interpolation.judgeable(PLANNED, 1, solved=False) == PLANNED[:1]


def _is_losing(run, first, last):
    given = run.model, run.inputs.outputs, run.setup.scorer, first, last, run.phase
    return weight_interpolation.is_losing(*given)


def test_a_phase_whose_every_mix_is_worse_is_losing(run):
    own = [weight.copy() for weight in run.model.get_weights()]
    # It goes into the JSON of a checkpoint, which takes no boolean of NumPy.
    assert _is_losing(run, _weights(2.0), [-weight for weight in _weights(9.0)]) is True
    for ours, theirs in zip(run.model.get_weights(), own, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_one_good_mix_is_enough_not_to_lose(run):
    assert not _is_losing(run, _weights(-1.0), _weights(2.5))
    # No mix differs from the weights before it, so none is measurably worse.
    assert not _is_losing(run, _weights(2.0), _weights(2.0))


def test_outputs_that_are_no_numbers_lose(run):
    assert _is_losing(run, _weights(2.0), [weight * np.nan for weight in _weights(2.0)])


def test_few_images_tell_no_loser(run):
    scorer = Scorer("single_label", run.setup.splits.val.labels[: MIN_VALIDATION_IMAGES - 1])
    outputs = run.inputs.outputs
    few = lambda: outputs()[: MIN_VALIDATION_IMAGES - 1]  # noqa: E731
    bad = [-weight for weight in _weights(9.0)]
    assert not weight_interpolation.is_losing(run.model, few, scorer, _weights(2.0), bad, run.phase)
