"""Parses the arguments of a command: at most one word, and flags."""

from kerasft.settings.errors import UserError, did_you_mean, one_of
from kerasft.settings.modes import COMMANDS


def parse(name: str, arguments: list[str]) -> tuple[str, dict[str, str | bool]]:
    """Parses the words after the name of a command.

    Returns:
        The argument (empty if it was left out), and the flags: their values, or True for a flag without a value.

    Raises:
        UserError: an argument is missing or there are too many, or a flag is unknown.
    """
    command, words, flags = COMMANDS[name], [], {}
    takes_value = {flag.partition("=")[0]: "=" in flag for flag in command.flags}
    remaining = iter(arguments)
    for word in remaining:
        if not word.startswith("-"):
            words.append(word)
            continue
        flag, equals, value = word.lstrip("-").partition("=")
        if flag not in takes_value:
            rule = f"takes --{one_of(takes_value)}" if takes_value else "takes no flags"
            raise UserError(f"--{flag}: kerasft {name} {rule}{did_you_mean(flag, takes_value)}. Received: {word!r}")
        if takes_value[flag] and not equals:
            value = next(remaining, "")
        if takes_value[flag] != bool(value):
            rule = "needs a value" if takes_value[flag] else "takes no value"
            raise UserError(f"--{flag}: {rule}. Received: {word!r}")
        flags[flag] = value or True
    takes_argument = bool(command.argument)
    is_missing = takes_argument and not words and not command.argument.startswith("[")
    if len(words) > takes_argument or is_missing:
        rule = f"takes one argument, {command.argument}" if takes_argument else "takes no argument"
        received = repr(" ".join(words)) if words else "nothing"
        raise UserError(f"kerasft {name}: {rule}, such as: {command.example}. Received: {received}")
    return (words[0] if words else ""), flags
