"""The one error a user's mistake becomes, and the wording it shares."""

import difflib
import unicodedata
from collections.abc import Iterable

# Joiners are part of words and of emoji. Other format characters are invisible, and some reverse the text.
_JOINERS = "\u200c\u200d"
# A message repeats at most so many characters of a value that was received.
MAX_RECEIVED_CHARACTERS = 200
_RECEIVED = "Received: "


class UserError(Exception):
    """A mistake in a flag, a file or a folder of the user. The command prints one message and exits with status 2.

    The arguments are the lines of the message. A long value after `Received: ` is shortened.
    """

    def __init__(self, *lines: object):
        super().__init__(*(_shorten_received(str(line)) for line in lines))

    def __str__(self) -> str:
        return "\n".join(self.args)


def _shorten_received(line: str) -> str:
    """Returns a line of a message whose value after `Received: ` has at most `MAX_RECEIVED_CHARACTERS` characters."""
    before, sign, value = line.rpartition(_RECEIVED)
    return before + sign + shorten(value) if sign else line


def shorten(text: str, limit: int = MAX_RECEIVED_CHARACTERS) -> str:
    """Returns a text of at most `limit` characters, cut in the middle. Its end holds the closing quote, or the file's name."""
    if len(text) <= limit:
        return text
    tail = limit // 4
    return f"{text[: limit - tail - 5]} ... {text[-tail:]}"


def printable(text: str) -> str:
    r"""Returns a line of text in which every character is escaped that a terminal or a log would execute.

    These are control characters (C0, C1, line ends), invisible characters, characters that reverse the direction of
    text, and bytes that are not UTF-8. An escape becomes `\x1b`, a line end `\n`.
    """
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
    return character.encode("unicode_escape").decode() if hidden else character


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the nearest of `choices`, or an empty string."""
    by_key = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_key, n=5, cutoff=0.6)
    best = min(near, key=lambda choice: _edit_distance(word.lower(), choice), default=None)
    return f" (did you mean '{by_key[best]}'?)" if best else ""


def _edit_distance(word: str, other: str) -> int:
    """Letters to insert, delete, replace or swap with their neighbour (Damerau 1964; optimal string alignment)."""
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
