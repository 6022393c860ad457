"""Whether the files that settings name are still those that a run was given. The images have a manifest (`data_changes`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasft.networks.network import Network
from kerasft.settings import backbone_list, distillation
from kerasft.settings.config import FIELDS, Config
from kerasft.settings.errors import UserError
from kerasft.storage import file_digest, own_code

# Values of `--weights` that name no file.
_NO_FILES = ("auto", "imagenet", "bundled", "none")


def digests(config: Config, network: Network) -> dict[str, dict[str, str]]:
    """The SHA-256 of the files of a run, by flag and by name, for `settled.json`.

    Of the user's code it is the modules that define what settings and layers name. What these import does not count.

    Args:
        config: its `--backbone` names one network.
        network: as it was built.
    """
    is_path = backbone_list.is_file(config.backbone) or backbone_list.is_hub(config.backbone)
    found = [spec for name, item in FIELDS.items() if "spec" in item.metadata for spec in config.specs(name)]
    modules = own_code.modules([*own_code.named_in(found), *network.model.operations])
    allowed = {name.partition(".")[0] for name in config.allow_imports}
    names = {
        "backbone": [config.backbone] if is_path else [],
        "weights": [config.weights] if config.weights not in _NO_FILES else [],
        "allow_imports": sorted(name for name in modules if name.partition(".")[0] in allowed),
    }
    known = {flag: {name: digest for name in given if (digest := _digest(flag, name))} for flag, given in names.items()}
    return {flag: given for flag, given in known.items() if given}


def refuse_other_files(settled: Mapping[str, Any], folder: Path) -> None:
    """Refuses files that have changed since the run began. One that is missing now is not compared.

    Args:
        settled: the content of `settled.json`; runs of earlier versions name no files in it.
        folder: of the run.

    Raises:
        UserError: one has changed.
    """
    teachers = {row["path"]: row["sha256"] for row in (settled.get("teacher") or {}).get("members", [])}
    for flag, given in ({**settled.get("files", {}), "teacher": teachers}).items():
        for name, before in given.items():
            if _digest(flag, name) not in (None, before):
                rule = f"has changed since the run in '{folder}' began; --noresume runs it again with what is there now"
                raise UserError(f"--{flag}: {rule}, another --run_dir keeps both. Received: {name!r}")


def _digest(flag: str, name: str) -> str | None:
    """The SHA-256 of what a flag names; None where it is no file, and where it cannot be read."""
    try:
        path = _path(flag, name)
        return file_digest.compute(path) if path and (path.is_file() or path.is_dir()) else None
    except (OSError, UserError):
        return None


def _path(flag: str, name: str) -> Path | None:
    if flag == "allow_imports":
        return own_code.find_file(name)
    return distillation.find(name).model if flag == "teacher" else Path(name.removeprefix("hub:"))
