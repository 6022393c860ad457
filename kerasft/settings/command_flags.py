"""The flags of the command line, made from the fields of Config, and the messages for mistakes in them.

`--allow_imports` allows code to be imported. So it is taken only from the command line, never from a flagfile: see `parse`.
"""

import os
import re
from typing import Any

from absl import flags

from kerasft.settings import arguments
from kerasft.settings import config as configs
from kerasft.settings.errors import UserError, did_you_mean, one_of
from kerasft.settings.fields import KINDS, kind_of
from kerasft.settings.modes import MODES, split_modes

EXAMPLE = (
    "No flags were given, so this is an example that downloads nothing: MobileNet learns scikit-learn's 1,797 images of "
    "handwritten digits. The run is recorded in runs/ and exported to saved_models/. Your own images: --data=DIR. "
    "All flags: --helpfull."
)
# The flags of the command, which are no settings of a run: type, default and help text.
COMMAND = {
    "mode": (
        str,
        "train",
        "train: audit, train, evaluate, export. audit: say what is wrong with the images. predict: label images. serve: answer HTTP requests. compress: export for other runtimes, or make the network smaller. explain: say why it answers so. lr_find: find a learning rate. tune: search hyperparameters. compare: train strategies side by side.",
    ),
    "preset": (
        str,
        "",
        "The name of a flagfile that comes with kerasft, such as own_folder. `kerasft presets` lists the names.",
    ),
    "dry_run": (
        bool,
        False,
        "train: print what would be done and how long it would take. Nothing is trained or written.",
    ),
    "model": (
        str,
        "",
        "predict, serve: a SavedModel, an artefact of --export, or a folder whose subfolders are numbered versions of it. compress, explain: the folder of a finished run.",
    ),
    "artefact": (
        str,
        "",
        "predict, serve: which artefact of a version is used, such as onnx or litert-int8: the name of its subfolder. Needed where there are several.",
    ),
    "timings": (
        bool,
        True,
        "compress: measure start-up, memory and speed of each artefact, each in a process of its own: some seconds for each.",
    ),
    "target": (
        str,
        "",
        "compress: make the network smaller by pruning, truncation or smaller images with fine-tuning, in steps: flops=0.5 or parameters=0.5 (share of the run's), drop=0.01 (as small as the validation score allows), or a share and drop. docs/surgery.md explains it.",
    ),
    "images": (
        str,
        "",
        "predict, explain: the images: a folder, a .csv with a column path, a file, or a quoted pattern such as 'photos/**/*.jpg'. explain: by default test images of the run.",
    ),
    "out": (
        str,
        "",
        "predict: write the predictions to this .csv, .jsonl or .parquet file instead of printing them; the same command resumes a stopped one. explain: the folder of explain.html and explain.json, by default that of the run.",
    ),
    "url": (
        str,
        "",
        "predict: use the model of a server, such as http://localhost:8501/v1/models/NAME. The environment variable KERASFT_API_KEY holds its API key.",
    ),
    "host": (str, "127.0.0.1", "serve: the address to listen on. 0.0.0.0 listens on all addresses of the machine."),
    "port": (int, 8501, "serve: the port to listen on. 0 chooses a free port."),
    "max_batch": (int, 32, "serve: the largest batch of the model, in images."),
    "max_delay_ms": (
        float,
        5.0,
        "serve: how long an image may wait for others to share its batch, in milliseconds, while the model is free.",
    ),
    "max_queue": (
        int,
        256,
        "serve: how many images may wait for the model, and so how many a request may hold. More are refused with status 429.",
    ),
    "max_body_mb": (
        float,
        32.0,
        "serve: the largest body of a request, in megabytes. A larger one is refused with status 413.",
    ),
    "max_megapixels": (
        float,
        50.0,
        "serve: the largest image: width times height, in millions. A larger one is refused with status 400.",
    ),
    "timeout_seconds": (
        float,
        30.0,
        "serve: how long a request may take to arrive (then status 408) and to be answered (then 503).",
    ),
    "api_key_file": (str, "", "serve: a file of API keys, one a line. Each request must then have one of them."),
    "search": (
        str,
        "",
        "tune: the search space, such as lr=log(1e-5, 1e-2); optimizer=choice(adamw, sgd(momentum=0.9)); head.dropout=uniform(0, 0.5); batch_size=int(16, 64, 16). A name is a setting of a run (optimizer), an argument of it (head.dropout), or an argument of one choice (optimizer.sgd.momentum). lr and epochs are those of the last phase that has epochs.",
    ),
    "tuner": (
        str,
        "random",
        "tune: random(trials=20), bayesian(trials=20), hyperband(max_epochs=9, factor=3, iterations=1), or grid. docs/tuning.md explains each.",
    ),
    "objective": (
        str,
        "val_loss",
        "tune: the validation metric that selects the best trial, such as val_loss, val_accuracy or val_mae.",
    ),
    "strategies": (
        str,
        "",
        "compare: what is compared, separated by ;. An entry is a value of --phases, such as head | all(epochs=10), or flags, such as --average=ema --phases=all. NAME: may stand before it. Differences are to the first one. Default: thirteen entries, all strategies but quantised, and auto (docs/strategies.md).",
    ),
    "winner_phases": (
        str,
        "",
        "tune: further phases for the best trial, after those of --phases, such as auto after --phases=head(epochs=9).",
    ),
}

# `arguments.check` says more of these.
_CHECKED_LATER = ("mode", "preset", "dry_run")
# `~` is expanded in them, as in `config.PATHS`.
_PATHS = ("model", "images", "out", "api_key_file")

# Names that are flags of other programs, and what to write here instead.
_PHASE = "it as an argument of a phase, such as --phases='head | all(epochs=5, lr=1e-4)'"
_OPTIMIZER = "it as an argument of the optimizer, such as --optimizer='sgd(momentum=0.9)' or 'adamw(weight_decay=0.01)'"
_HEAD = "it as an argument of the head, such as --head='linear(dropout=0.2)' or 'mlp(units=(256,), activation=relu)'"
_ALTERNATIVES = {
    **dict.fromkeys(("lr", "learning_rate", "epochs", "unfreeze", "batch_norm", "num_epochs"), _PHASE),
    **dict.fromkeys(("momentum", "weight_decay", "clipnorm", "global_clipnorm"), _OPTIMIZER),
    **dict.fromkeys(("dropout", "units", "pooling", "activation"), _HEAD),
    "label_smoothing": "it as an argument of the loss: --loss='cross_entropy(label_smoothing=0.1)'",
    "gamma": "it as an argument of the loss: --loss='focal(gamma=2)'",
    "warmup_steps": "the fraction of a phase: --schedule='cosine(warmup=0.1)'",
    "model_dir": "--run_dir and --export_dir",
    "output_dir": "--run_dir and --export_dir",
    "log_dir": "--run_dir, which also takes the logs of --tensorboard",
    "data_dir": "--data=DIR",
}


class _Parser(flags.ArgumentParser):
    """Converts the text of a flag to the type of its field."""

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
            raise ValueError(f"must be {KINDS[self.kind]}") from None

    def flag_type(self) -> str:
        return self.kind.__name__


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    # The command line has bytes that are not UTF-8.
    except UnicodeEncodeError:
        return False
    return True


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of the command, and one flag for each field of Config with its default and help text."""
    for name, (kind, default, text) in COMMAND.items():
        if kind is bool:
            flags.DEFINE_boolean(name, default, text, flag_values=flag_values)
            continue
        flags.DEFINE(_Parser(kind), name, default, text, flag_values=flag_values)
    for name, item in configs.FIELDS.items():
        kind, _ = kind_of(configs.HINTS[name])
        if kind is bool:
            flags.DEFINE_boolean(name, item.default, item.metadata["help"], flag_values=flag_values)
        elif kind is tuple:
            flags.DEFINE_list(name, list(item.default), item.metadata["help"], flag_values=flag_values)
        else:
            flags.DEFINE(_Parser(kind), name, item.default, item.metadata["help"], flag_values=flag_values)


def parse(flag_values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Parses a command line and its flagfiles. Returns the words that are no flags.

    Raises:
        UserError: a flag is wrong, a flagfile cannot be read, or a flagfile, even a nested one, sets `--allow_imports`.
    """
    rest, allowed = _without_imports(argv)
    try:
        words = flag_values(rest)
        # absl defines flags of its own, such as --log_dir, which change nothing here.
        known, typed = {*COMMAND, *configs.FIELDS}, {word.lstrip("-").partition("=")[0] for word in rest}
        if foreign := [name for name in flag_values if flag_values[name].present and name not in known]:
            # One flag may have two names.
            raise flags.UnrecognizedFlagError(min(foreign, key=lambda name: name not in typed))
        if flag_values["allow_imports"].present:
            raise UserError("--allow_imports: may only be set on the command line, not in a flagfile.")
        if allowed is not None:
            flag_values["allow_imports"].parse(allowed)
        arguments.check_data(rest, flag_values["mode"].value, is_set=flag_values["data"].present > 0)
    except flags.Error as error:
        raise UserError(_flag_mistake(error, [*COMMAND, *configs.FIELDS])) from None
    except UnicodeDecodeError as error:
        named = re.findall(r"--?flagfile[= ](\S+)", " ".join(argv))
        place = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise UserError(f"--flagfile: must be UTF-8 text ({place}). Received: {', '.join(map(repr, named))}") from None
    return words


def _without_imports(argv: list[str]) -> tuple[list[str], str | None]:
    """Returns a command line without `--allow_imports`, and the last value of this flag."""
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


def read_settings(flag_values: flags.FlagValues, words: list[str]) -> tuple[configs.Config, dict[str, Any]]:
    """Returns the Config of a parsed command line, and the flags of the command by name.

    Args:
        words: as `parse` returns them.

    Raises:
        UserError: a word is no flag, the mode is unknown, a flag is none of the mode, or a setting is invalid.
    """
    if len(words) > 1:
        raise UserError(f"unexpected argument; flags are written --name=value. Received: {words[1]!r}")
    options = {name: flag_values[name].value for name in COMMAND}
    options |= {name: os.path.expanduser(options[name]) for name in _PATHS}
    mode = options["mode"]
    if mode not in MODES:
        raise UserError(f"--mode: must be one of {one_of(MODES)}{did_you_mean(mode, MODES)}. Received: {mode!r}")
    arguments.check(options["preset"], options["dry_run"], mode)
    for name, (_, default, text) in COMMAND.items():
        known = dict.fromkeys(one for modes, _ in split_modes(text) for one in modes)
        if options[name] != default and mode not in known and name not in _CHECKED_LATER:
            raise UserError(f"--{name}: is for {' and '.join(known)}; this is {mode}. Received: {options[name]!r}")
    if options["target"] and not options["timings"]:
        raise UserError("--timings: nothing is measured under --target; leave it out. Received: --notimings")
    settings = {name: flag_values[name] for name in configs.FIELDS}
    given = {name: flag.value for name, flag in settings.items() if flag.value != flag.default}
    arguments.refuse_settings(mode, options["target"], given)
    return make_config(flag_values), options


def named_paths(flag_values: flags.FlagValues) -> dict[str, str]:
    """Returns the paths that a command line names, by flag."""
    names = ("run_dir", "export_dir", "cache_dir", "backbone", "weights", "model", "images", "out", "api_key_file")
    # As `config.PATHS` and `_PATHS` are: the message for a full disk looks for the flag of the file.
    paths = {f"--{name}": os.path.expanduser(flag_values[name].value or "") for name in names}
    paths["--run_dir"] = paths["--run_dir"] or "runs"
    paths["--data"] = os.path.expanduser(re.sub("^(folder|csv|tfds):", "", flag_values["data"].value))
    return {flag: path for flag, path in paths.items() if path}


def make_config(flag_values: flags.FlagValues) -> configs.Config:
    """Returns the Config of parsed flags."""
    return configs.Config(**{name: flag_values[name].value for name in configs.FIELDS})


def _flag_mistake(error: flags.Error, names: list[str]) -> str:
    """Returns the message for a flag that absl refuses."""
    text = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        if place := _ALTERNATIVES.get(error.flagname):
            return f"--{error.flagname}: is no flag of its own; write {place}. Received: '--{error.flagname}'"
        return f"--{error.flagname}: no such flag{did_you_mean(error.flagname, names)}; see --help. Received: '--{error.flagname}'"
    if isinstance(error, flags.CantOpenFlagFileError):
        return f"--flagfile: cannot be opened: {text.rpartition('Errno')[2].partition('] ')[2]}"
    match = re.fullmatch(r"flag --(\w+)=(.*): (.*)", text, re.DOTALL)
    if not match:
        return text
    rule = f"must be true or false (--{match[1]} or --no{match[1]})" if "Non-boolean" in match[3] else match[3]
    return f"--{match[1]}: {rule}. Received: {match[2]!r}"
