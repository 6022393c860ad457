"""The one error a user's mistake becomes, and the wording it shares."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a flag, a file or a folder of the user's: exit status 2, one message, no traceback."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the nearest of `choices`, or an empty string."""
    by_key = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_key, n=1, cutoff=0.6)
    return f" (did you mean '{by_key[near[0]]}'?)" if near else ""


def one_of(choices: Iterable[str]) -> str:
    """Returns the choices as a sorted, comma-separated list for a message."""
    return ", ".join(sorted(choices, key=str.lower))
