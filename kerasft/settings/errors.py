"""The one error a user's mistake becomes, and the wording it shares."""

import difflib
import unicodedata
from collections.abc import Iterable

# Joiners are part of words and of emoji. The other format characters are unseen, and some turn the text around.
_JOINERS = "\u200c\u200d"


class UserError(Exception):
    """A mistake in a flag, a file or a folder of the user's: exit status 2, one message, no traceback.

    Its arguments are the lines of the message.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


def printable(text: str) -> str:
    r"""A line of text with everything escaped that a terminal or a log would obey instead of show.

    These are control characters (C0, C1, line ends), characters that reverse the direction of text or are unseen, and
    bytes that are not UTF-8: an escape becomes `\x1b`, a line end `\n`.
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
    return character.encode("unicode_escape").decode() if hidden else character


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the nearest of `choices`, or an empty string."""
    by_key = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_key, n=5, cutoff=0.6)
    best = min(near, key=lambda choice: _edits(word.lower(), choice), default=None)  # of equals, the most alike
    return f" (did you mean '{by_key[best]}'?)" if best else ""


def _edits(word: str, other: str) -> int:
    """Letters to insert, delete, replace or swap with their neighbour (Damerau 1964, each place changed once)."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(word, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            least = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == wanted:
                least = min(least, rows[-2][j - 2] + 1)
            row.append(least)
        rows.append(row)
    return rows[-1][-1]


def counted(number: int, noun: str) -> str:
    """Returns `1 step`, `2 steps`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def one_of(choices: Iterable[str]) -> str:
    """Returns the choices as a sorted, comma-separated list for a message."""
    return ", ".join(sorted(choices, key=str.lower))
