"""What `auto` resolved to. It is written to `settled.json` before the first phase, and a run that has a checkpoint reads it there."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from kerasft.storage import run_folder

FILE_NAME = "settled.json"


@dataclass
class ResolvedSettings:
    """Settings that a run chose by itself, each with its reason.

    Attributes:
        weights, image_size, precision, backbone: as the flags of these names, without `auto` and lists.
        files: by flag and name, the SHA-256 of the files that settings name (`job.file_changes.digests`).
        backbone_table: what was measured of each network of a list: `choice`, `loss`, `accuracy` (of single labels),
            `seconds`, `parameters`, `macs`, `images_per_second`.
        surgery: what `--surgery` did: `surgery`, and `parameters` and `macs` before and after.
        features: names of the layers whose pooled activations the head sees, the last one the backbone's output.
        features_table: what `--features` tried: number of depths, held-out loss and accuracy, share, seconds.
        augment: the `--augment` Spec, without `auto`.
        speed: images a second of a forward pass; None where it was not measured.
        shift: domain shift of the training images (`domain_shift.measure`); None where it was not measured.
        pixels: mean and variance by channel of the training images, under `--preprocessing=dataset`.
        batch_size, jit: as the flags of these names, without `auto`.
        phases: the phases of the run, as `--phases` takes them.
        dropped_phases: phases that were planned, and that the validation images cannot judge.
        budget: under `--budget_minutes`: `before_training`, the seconds until training began.
        cached: for each phase, by name, how its inputs are cached: number of cached augmentations, dtype, reason.
        framing: as the flag, without `auto`; None until it is chosen.
        audit_size: side in pixels of the images by which copies are found and so the splits are made; None for `image_size`.
        tta: as the flag, without `auto`; None until the network is trained.
        tta_table: what was measured of each: `choice`, `loss`, `accuracy` (of single labels).
        teacher: under `--teacher`: `members` (path and SHA-256 of each), `val_loss` and score of their mean answer on the
            validation images, `temperature` and `weight`; the number of `unlabelled` images.
        framing_table: what was measured of each framing: `choice`, `loss`, `accuracy` (of single labels), `seconds`.
    """

    weights: str | None
    image_size: int
    precision: str
    precision_reason: str = ""
    surgery: list[dict] = field(default_factory=list)
    backbone: str | None = None
    backbone_reason: str = ""
    backbone_table: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    features: list[str] = field(default_factory=list)
    features_table: list[dict] = field(default_factory=list)
    features_reason: str = ""
    augment: str | None = None
    augment_reason: str = ""
    speed: float | None = None
    shift: float | None = None
    pixels: tuple[list[float], list[float]] | None = None
    batch_size: int | None = None
    batch_size_reason: str = ""
    jit: str | None = None
    jit_reason: str = ""
    budget: dict[str, float] | None = None
    phases: list[str] = field(default_factory=list)
    dropped_phases: list[str] = field(default_factory=list)
    cached: dict[str, list] = field(default_factory=dict)
    audit_size: int | None = None
    tta: str | None = None
    tta_reason: str = ""
    tta_table: list[dict[str, Any]] = field(default_factory=list)
    framing: str | None = None
    framing_reason: str = ""
    framing_table: list[dict[str, Any]] = field(default_factory=list)
    teacher: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `settled.json`, without what is not resolved yet."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", [], {})}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ResolvedSettings":
        """Returns the settings that `to_json` wrote. Keys of other versions are ignored."""
        names = {item.name for item in fields(cls)}
        # Folders of versions without bundled weights do not name them.
        return cls(**{"weights": None} | {name: value for name, value in values.items() if name in names})

    def write(self, folder: Path) -> None:
        """Writes `settled.json` into a run folder."""
        run_folder.write_figures(folder / FILE_NAME, self.to_json())


def read(folder: Path) -> ResolvedSettings | None:
    """Reads the settings of a run folder; None where it holds none.

    Raises:
        UserError: the file is damaged.
    """
    values = run_folder.read_json(folder / FILE_NAME, "image_size", "precision")
    return ResolvedSettings.from_json(values) if values else None
