"""The flags of the command line, made from the fields of Config, and the words for what is wrong with them.

`--allow_imports` lets code in, so it is read from what the user has typed and from nowhere else: see `parse`.
"""

import re
from typing import Any

from absl import flags

from kerasft.settings import arguments
from kerasft.settings import config as configs
from kerasft.settings.errors import UserError, did_you_mean, one_of
from kerasft.settings.modes import MODES

EXAMPLE = (
    "no flags were given, so this is an example without a download: MobileNet learns scikit-learn's 1,797 handwritten "
    "digits. It is recorded in runs/ and exported into saved_models/. Your own pictures: --data=DIR; all flags: --help."
)
COMMAND = {  # the flags that are no settings of a run: type, default, help
    "mode": (
        str,
        "train",
        "train: audit, train, evaluate, export; predict: label pictures; serve: answer over HTTP; tune: search settings.",
    ),
    "preset": (
        str,
        "",
        "A flagfile that comes with kerasft, by its name, such as own_folder; `kerasft presets` lists them.",
    ),
    "dry_run": (
        bool,
        False,
        "train: say what would be done, with the time that it would take; train and write nothing.",
    ),
    "model": (str, "", "predict, serve: a SavedModel, or a folder of numbered ones."),
    "images": (
        str,
        "",
        "predict: a folder, a .csv with a column path, a file, or a quoted pattern such as 'photos/**/*.jpg'.",
    ),
    "out": (str, "", "predict: a .csv, .jsonl or .parquet file instead of the screen; once stopped, it goes on."),
    "url": (
        str,
        "",
        "predict: ask a server instead, such as http://localhost:8501/v1/models/NAME; a key from KERASFT_API_KEY.",
    ),
    "host": (str, "127.0.0.1", "serve: the address to listen on; 0.0.0.0 for all."),
    "port": (int, 8501, "serve: the port to listen on; 0 for a free one."),
    "max_batch": (int, 32, "serve: pictures that the model is given at once."),
    "max_delay_ms": (float, 5.0, "serve: how long a picture may wait for others while the model is free."),
    "max_queue": (int, 256, "serve: pictures that may wait for the model, and so in one request; above it 429."),
    "max_body_mb": (float, 32.0, "serve: megabytes of a request; above it 413."),
    "max_megapixels": (float, 50.0, "serve: width times height of a picture, in millions; above it 400."),
    "timeout_seconds": (float, 30.0, "serve: for a request to arrive (else 408) and to be answered (else 503)."),
    "api_key_file": (str, "", "serve: keys, one a line; requests must then show one."),
    "search": (
        str,
        "",
        "tune: what to search, such as lr=log(1e-5, 1e-2); optimizer=choice(adamw, sgd(momentum=0.9)); head.dropout=uniform(0, 0.5); batch_size=int(16, 64, 16). Names are settings below, field.argument or field.NAME.argument of the Specs in them, and lr and epochs of the last phase that has epochs.",
    ),
    "tuner": (
        str,
        "random",
        "tune: random(trials=20), bayesian(trials=20), hyperband(max_epochs=9, factor=3), or grid.",
    ),
    "objective": (str, "val_loss", "tune: a figure of the validation split, such as val_accuracy or val_mae."),
    "winner_phases": (
        str,
        "",
        "tune: phases that the winner goes on with after those of the trials, such as auto after --phases=head(epochs=9).",
    ),
    "budget_minutes": (float, None, "tune: no new trial begins after so many minutes; the winner's training is extra."),
}

# Words that others make flags of -> where they are said here.
_PHASE = "it into a phase, such as --phases='head | all(epochs=5, lr=1e-4)'"
_OPTIMIZER = "it into the optimizer, such as --optimizer='sgd(momentum=0.9)' or 'adamw(weight_decay=0.01)'"
_HEAD = "it into the head, such as --head='linear(dropout=0.2)' or 'mlp(units=(256,), activation=relu)'"
_ELSEWHERE = {
    **dict.fromkeys(("lr", "learning_rate", "epochs", "unfreeze", "batch_norm", "num_epochs"), _PHASE),
    **dict.fromkeys(("momentum", "weight_decay", "clipnorm", "global_clipnorm"), _OPTIMIZER),
    **dict.fromkeys(("dropout", "units", "pooling", "activation"), _HEAD),
    "label_smoothing": "it into the loss: --loss='cross_entropy(label_smoothing=0.1)'",
    "gamma": "it into the loss: --loss='focal(gamma=2)'",
    "warmup_steps": "the share of a phase: --schedule='cosine(warmup=0.1)'",
    "model_dir": "--run_dir and --export_dir",
    "output_dir": "--run_dir and --export_dir",
    "data_dir": "--data=DIR",
}


class _Parser(flags.ArgumentParser):
    """Text of a flag to the type of its field, with a message in our words."""

    def __init__(self, kind: type):
        self.kind = kind

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        if "\0" in argument or not _is_text(argument):
            raise ValueError("must be UTF-8 text without NUL characters")
        try:
            return self.kind(argument)
        except ValueError:
            raise ValueError(f"must be {configs.KINDS[self.kind]}") from None

    def flag_type(self) -> str:
        return self.kind.__name__


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8
        return False
    return True


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of the command, and one for every field of Config with its default, group and help text."""
    for name, (kind, default, text) in COMMAND.items():
        if kind is bool:
            flags.DEFINE_boolean(name, default, text, flag_values=flag_values)
            continue
        flags.DEFINE(_Parser(kind), name, default, text, flag_values=flag_values)
    for name, item in configs.FIELDS.items():
        kind, _ = configs.kind_of(name)
        if kind is bool:
            flags.DEFINE_boolean(name, item.default, item.metadata["help"], flag_values=flag_values)
        elif kind is tuple:
            flags.DEFINE_list(name, list(item.default), item.metadata["help"], flag_values=flag_values)
        else:
            flags.DEFINE(_Parser(kind), name, item.default, item.metadata["help"], flag_values=flag_values)


def parse(flag_values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Parses a command line, with the flagfiles that it names; the words of it that are no flags.

    Raises:
        UserError: a flag that is wrong, a flagfile that cannot be read, or one, nested ones included, that sets
            `--allow_imports`.
    """
    rest, allowed = _without_imports(argv)
    try:
        words = flag_values(rest)
        if flag_values["allow_imports"].present:
            raise UserError("--allow_imports: is taken from the command line only, not from a flagfile.")
        if allowed is not None:
            flag_values["allow_imports"].parse(allowed)
    except flags.Error as error:
        raise UserError(_flag_mistake(error, list(flag_values))) from None
    except UnicodeDecodeError as error:
        named = re.findall(r"--?flagfile[= ](\S+)", " ".join(argv))
        place = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise UserError(f"--flagfile: must be UTF-8 text ({place}). Received: {', '.join(map(repr, named))}") from None
    return words


def _without_imports(argv: list[str]) -> tuple[list[str], str | None]:
    """A command line without `--allow_imports`, and the last value that it gives it."""
    rest, allowed, words = [], None, iter(argv)
    for word in words:
        name, sign, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif name in ("--allow_imports", "-allow_imports"):
            allowed = value if sign else next(words, "")
        else:
            rest.append(word)
    return rest, allowed


def settings(flag_values: flags.FlagValues, words: list[str]) -> tuple[configs.Config, dict[str, Any]]:
    """The Config of a parsed command line, and the flags of the command by name.

    Args:
        words: what `parse` gave.

    Raises:
        UserError: a word that is no flag, an unknown mode, or a setting that is refused.
    """
    if len(words) > 1:
        raise UserError(f"unexpected argument; flags are written --name=value. Received: {words[1]!r}")
    asked = {name: flag_values[name].value for name in COMMAND}
    mode = asked["mode"]
    if mode not in MODES:
        raise UserError(f"--mode: must be one of {one_of(MODES)}{did_you_mean(mode, MODES)}. Received: {mode!r}")
    arguments.check(asked["preset"], asked["dry_run"], mode)
    return from_flags(flag_values), asked


def places(flag_values: flags.FlagValues) -> dict[str, str]:
    """The paths that a command line names, by flag."""
    names = ("run_dir", "export_dir", "cache_dir", "backbone", "weights", "model", "images", "out", "api_key_file")
    found = {f"--{name}": flag_values[name].value for name in names}
    found["--run_dir"] = found["--run_dir"] or "runs"
    found["--data"] = re.sub("^(folder|csv|tfds):", "", flag_values["data"].value)
    return {flag: place for flag, place in found.items() if place}


def from_flags(flag_values: flags.FlagValues) -> configs.Config:
    """The Config that parsed flags give."""
    return configs.Config(**{name: flag_values[name].value for name in configs.FIELDS})


def _flag_mistake(error: flags.Error, names: list[str]) -> str:
    """absl's message for a flag it could not take, in our words."""
    text = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        if place := _ELSEWHERE.get(error.flagname):
            return f"--{error.flagname}: is no flag of its own; write {place}. Received: '--{error.flagname}'"
        return f"--{error.flagname}: no such flag{did_you_mean(error.flagname, names)}; see --help. Received: '--{error.flagname}'"
    if isinstance(error, flags.CantOpenFlagFileError):
        return f"--flagfile: cannot be opened: {text.rpartition('Errno')[2].partition('] ')[2]}"
    match = re.fullmatch(r"flag --(\w+)=(.*): (.*)", text, re.DOTALL)
    if not match:
        return text
    rule = f"must be true or false (--{match[1]} or --no{match[1]})" if "Non-boolean" in match[3] else match[3]
    return f"--{match[1]}: {rule}. Received: {match[2]!r}"
