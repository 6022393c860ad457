"""`--target`: what it takes, and how the way to it is divided."""

import pytest

from kerasft.settings.errors import UserError
from kerasft.slim.target import STEP, Sizes, Target, next_share, parse


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("flops=0.5", Target("flops", 0.5, None)),
        ("parameters=0.25", Target("parameters", 0.25, None)),
        ("drop=0.01", Target("flops", None, 0.01)),
        ("drop=0.02, parameters=0.5", Target("parameters", 0.5, 0.02)),
        ("flops=0.1234567", Target("flops", 0.1234567, None)),
        ("flops=0.1234568, drop=1e-7", Target("flops", 0.1234568, 1e-7)),
    ],
)
def test_a_target_is_read_and_its_text_gives_it_again(text, target):
    assert parse(text) == target
    assert parse(str(target)) == target


@pytest.mark.parametrize(
    "text",
    [
        *("flops", "0.5", "flops=half", "flops=0", "flops=1", "flops=1.5", "flops=-0.5", "flops=True", "drop=0"),
        *("flops=0.5, parameters=0.5", "size=0.5", "flops=0.5) | (drop=0.1", "flops=0.5, 3", "flops=", "f('os')"),
    ],
)
def test_another_target_is_a_mistake(text):
    with pytest.raises(UserError, match=r"^--target: .*Received: "):
        parse(text)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.69, 0.7, 0.95])
def test_equal_steps_lead_to_the_target(share):
    target, left, shares = Target("flops", share, None), 1.0, []
    while left > share + 1e-9:
        left = next_share(target, left)
        shares.append(left)
    assert left == pytest.approx(share)
    ratios = [after / before for before, after in zip([1.0, *shares], shares, strict=False)]
    assert min(ratios) == pytest.approx(max(ratios))
    # As few steps as possible, none larger than allowed.
    assert min(ratios) >= STEP - 1e-9 > share ** (1 / (len(shares) - 1)) if len(shares) > 1 else min(ratios) == share


def test_without_a_share_steps_are_equal_for_ever():
    assert next_share(Target("flops", None, 0.01), 0.49) == pytest.approx(0.49 * STEP)


def test_a_target_counts_what_it_names():
    assert Sizes(3, 5).of(parse("flops=0.5")) == 3
    assert Sizes(3, 5).of(parse("parameters=0.5")) == 5
