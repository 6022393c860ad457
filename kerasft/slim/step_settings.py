"""The Config of a step's run: the original run's, without what a smaller network cannot use."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from kerasft.data import sources
from kerasft.job import finished_run
from kerasft.job.data_changes import refuse_changes
from kerasft.optimization import averages
from kerasft.settings.config import FIELDS, Config
from kerasft.settings.stored_config import from_stored
from kerasft.slim import resizing

# The folder in `--export_dir`: a server of the run's own SavedModel does not take a slimmer version by itself.
EXPORTS = "slim"

# Settings of the steps that the command line gives. The others are the run's, but for those that `read_run` changes.
STEP_SETTINGS = ("phases", "export", "teacher", "distill", "unlabelled")

Row = dict[str, Any]


def read_run(settings: Config, run: str) -> tuple[Config, Row]:
    """The settings that every step has in common, and the `metrics.json` of a finished run.

    Raises:
        UserError: no finished run, or its images are missing or have changed.
    """
    folder = Path(run)
    metrics, stored = finished_run.read_files(
        run, keys=("task", "classes", "framing", "image_size", "test", "val", "cost")
    )
    # What the run learned without labels is not learned again.
    own = from_stored(stored, allow_imports=settings.allow_imports, unlabelled="")
    refuse_changes(own, sources.load(own), folder)
    changes = {name: getattr(settings, name) for name in (*STEP_SETTINGS, "max_drop")}
    # The default stands for the folder of the run.
    exports = settings.export_dir if settings.export_dir != FIELDS["export_dir"].default else own.export_dir
    changes["export_dir"] = str(Path(exports) / EXPORTS)
    # The saved network scales pixels itself, and has its surgeries and its size.
    changes |= {"weights": "auto", "preprocessing": "auto", "surgery": "none", "image_size": None}
    # A smaller network cannot take the weights of the other runs.
    changes["average"] = " | ".join(map(str, averages.without_runs(own.specs("average")))) or "none"
    # What is served is compared with the run, and not with what that was compared with.
    changes |= {"baseline": "", "gate": False, "robustness": FIELDS["robustness"].default}
    return replace(own, **changes, budget_minutes=None, resume=True, tensorboard=False), metrics


def of_candidate(own: Config, row: Row, whole: int, size: int) -> Config:
    """The Config of a candidate's run. Its head sees as many depths as the run's, or all where the network has fewer.

    Args:
        own: of the step.
        row: of `Slimming.tried`.
        whole, size: sides of the images of the run and of the step before, in pixels.
    """
    changes = resizing.settings_of(row["surgery"])
    phases = resizing.phases_at(own, whole, changes.get("image_size", size))
    # Rows of earlier versions do not have them.
    if own.features.isdecimal() and row.get("depths"):
        changes["features"] = str(min(int(own.features), row["depths"]))
    return replace(own, **changes, phases=phases, run_dir=row["run_dir"])
