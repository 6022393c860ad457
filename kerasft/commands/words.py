"""The arguments of a command: one word at the most, and flags."""

from kerasft.settings.errors import UserError, did_you_mean, one_of
from kerasft.settings.modes import COMMANDS


def parse(name: str, arguments: list[str]) -> tuple[str, dict[str, str | bool]]:
    """Reads what was typed behind a command.

    Returns:
        The argument (empty where it was left out), and the flags: text, or True for one without a value.

    Raises:
        UserError: an argument that is missing or too many, or an unknown flag.
    """
    command, words, flags = COMMANDS[name], [], {}
    takes = {flag.partition("=")[0]: "=" in flag for flag in command.flags}
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            words.append(word)
            continue
        flag, equals, value = word.lstrip("-").partition("=")
        if flag not in takes:
            listed = f"takes --{one_of(takes)}" if takes else "takes no flags"
            raise UserError(f"--{flag}: kerasft {name} {listed}{did_you_mean(flag, takes)}. Received: {word!r}")
        if takes[flag] and not equals:
            value = next(rest, "")
        if takes[flag] != bool(value):
            rule = "needs a value" if takes[flag] else "takes no value"
            raise UserError(f"--{flag}: {rule}. Received: {word!r}")
        flags[flag] = value or True
    wanted = bool(command.argument)
    if len(words) > wanted or (wanted and not words and not command.argument.startswith("[")):
        rule = f"takes one argument, {command.argument}" if wanted else "takes no argument"
        received = repr(" ".join(words)) if words else "nothing"
        raise UserError(f"kerasft {name}: {rule}, such as: {command.example}. Received: {received}")
    return (words[0] if words else ""), flags
