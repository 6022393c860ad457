"""The wording that messages share."""

import pytest

from kerasft.settings.errors import MAX_RECEIVED_CHARACTERS, UserError, counted, did_you_mean, printable


@pytest.mark.parametrize(
    ("word", "nearest"), [("adma", "Adam"), ("adamax", "Adamax"), ("AdamWW", "AdamW"), ("smd", "SGD"), ("zzz", None)]
)
def test_the_nearest_name_is_the_one_of_the_fewest_edits(word, nearest):
    choices = ("Adamax", "Adam", "AdamW", "SGD", "Nadam")
    assert did_you_mean(word, choices) == (f" (did you mean '{nearest}'?)" if nearest else "")


def test_one_is_no_plural():
    assert [counted(number, "step") for number in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]


def test_a_long_received_value_is_shortened_and_keeps_its_ends():
    text = str(UserError(f"--search: must be short. Received: {'begin' + 'x' * 1000 + 'end'!r}"))
    assert text.startswith("--search: must be short. Received: 'begin") and text.endswith("xend'")
    assert len(text.partition("Received: ")[2]) == MAX_RECEIVED_CHARACTERS
    whole = f"--search: must be short. Received: '{'x' * 150}'"
    assert str(UserError(whole)) == whole


def test_lines_of_a_message_and_what_is_escaped_in_one():
    assert str(UserError("first", "second")) == "first\nsecond"
    assert printable("a\x00b\u2066c\x7f é 蚂") == r"a\x00b\u2066c\x7f é 蚂"
