"""The rooms: a module imports only from those above it, none is too large, and the frame needs no TensorFlow."""

import ast
import builtins
from pathlib import Path

import pytest
from conftest import ROOT

# From the bottom up; a room may import from any line above its own.
ROOMS = [
    "errors",
    "files",
    "machine",
    "headers",
    "spec",
    "config",
    "search",
    "command_line",
    "failures",
    "settings.modes",
    "settings.presets",
    "settings.arguments",
    "settings.help",
    "settings",
    "console.columns",
    "console",
    "networks.published",
    "networks",
    "quiet",
    "decode",
    "augment.ranges",
    "augment.boxes",
    "augment.pixels",
    "augment.tables",
    "augment.fusion",
    "augment.operations",
    "augment.pointwise",
    "augment.policies",
    "augment.erasing",
    "augment.mixing",
    "augment.layer",
    "augment",
    "data.listing",
    "data.copies",
    "data.formulas",
    "data.generated",
    "data.folder",
    "data.table",
    "data.catalog",
    "data.sources",
    "data.audit",
    "data.splits",
    "data.pipeline",
    "data",
    "bundled",
    "saved_files",
    "backbones",
    "heads",
    "model",
    "batchnorm",
    "losses",
    "optimizers",
    "phases",
    "planning",
    "compute",
    "evaluate",
    "measures",
    "probe",
    "mirroring",
    "selection",
    "runs",
    "manifest",
    "disk_space",
    "checkpoint",
    "interrupt",
    "screen",
    "locks",
    "store",
    "decoded",
    "cache",
    "feed",
    "warmstart",
    "standing",
    "epochs",
    "fitting",
    "trainer",
    "warmup",
    "export",
    "report.words",
    "report.statistics",
    "report.figures",
    "report.headline",
    "report.sections",
    "report.usage",
    "report.page",
    "report.importance",
    "report.trials",
    "report.comparison",
    "report",
    "predict.answers",
    "predict.cells",
    "predict.sources",
    "predict.batches",
    "predict.tables",
    "predict.stretches",
    "predict.local",
    "predict.remote",
    "predict.job",
    "predict",
    "serve.limits",
    "serve.pictures",
    "serve.gauges",
    "serve.guard",
    "serve.connections",
    "serve.batching",
    "serve.versions",
    "serve.rows",
    "serve.tensors",
    "serve.shelf",
    "serve.routes",
    "serve.server",
    "serve.job",
    "serve",
    "settling",
    "dry_run",
    "job",
    "tune.rates",
    "tune.oracles",
    "tune.hypermodel",
    "tune.hparams",
    "tune.study",
    "tune.job",
    "tune",
    "commands.words",
    "commands.backbones",
    "commands.presets",
    "commands.layers",
    "commands.runs",
    "commands.flags",
    "commands",
    "front_door",
    "run",
    "__main__",
]
WITHOUT_TENSORFLOW = (
    "errors",
    "files",
    "machine",
    "headers",
    "spec",
    "config",
    "search",
    "command_line",
    "failures",
    "quiet",
    "run",
    "manifest",
    "disk_space",
    "data.listing",
    "data.copies",
    "data.formulas",
    "data.generated",
    "data.folder",
    "data.table",
    "data.catalog",
    "data.sources",
    "data.splits",
    "runs",
)
HEAVY = {"tensorflow", "tensorflow_datasets", "keras", "keras_tuner", "sklearn", "scipy", "matplotlib"}
_LIGHT = ("report", "settings", "console", "networks", "commands", "front_door", "__main__")
WITHOUT_TENSORFLOW += tuple(room for room in ROOMS if room.startswith(_LIGHT))
LIBRARY = ROOT / "kerasft"


def _name(path: Path) -> str:
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    _name(path): path for path in LIBRARY.rglob("*.py") if _name(path)
}  # the package itself imports nothing until asked


def _imports(path: Path, *, late: bool) -> set[str]:
    """Modules that a file imports, at its top only or anywhere."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree) if late else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _rooms(path: Path) -> set[str]:
    found = set()
    for name in _imports(path, late=True):
        inner = name.removeprefix("kerasft.")
        if name.startswith("kerasft."):
            found.add(
                max((room for room in FILES if inner == room or inner.startswith(room + ".")), key=len, default="")
            )
    return found - {""}


def test_every_file_is_a_room():
    assert sorted(FILES) == sorted(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    allowed = set(ROOMS[: ROOMS.index(room)])
    assert _rooms(FILES[room]) <= allowed


@pytest.mark.parametrize("room", WITHOUT_TENSORFLOW)
def test_the_frame_imports_nothing_heavy(room):
    assert not {name.partition(".")[0] for name in _imports(FILES[room], late=False)} & HEAVY


def test_only_phases_touches_trainable():
    for room, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "trainable":
                read = isinstance(node.ctx, ast.Load)
                assert room == "phases" or (room == "batchnorm" and read), f"{room}:{node.lineno}"


def test_flags_are_read_in_run_only():
    for room, path in FILES.items():
        assert ("flags.FLAGS" in path.read_text()) == (room == "run")


def test_no_file_is_too_large():
    sizes = {room: len(path.read_text().splitlines()) for room, path in FILES.items()}
    assert {room: size for room, size in sizes.items() if size > 300} == {}
    assert sizes["run"] <= 80


def test_the_library_has_no_assert():
    for room, path in FILES.items():
        assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)], room


def test_no_exception_is_made_before_it_is_raised():
    """One that a module keeps and raises again and again gathers a traceback each time, for ever."""
    trees = {room: ast.parse(path.read_text()) for room, path in FILES.items()}
    own = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    kinds = {name for name in own | set(dir(builtins)) if name.endswith(("Error", "Exception", "Refusal", "Refused"))}
    for room, tree in trees.items():
        bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
        for statement in (one for body in bodies for one in body if isinstance(one, (ast.Assign, ast.AnnAssign))):
            made = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
            assert not {getattr(f, "id", getattr(f, "attr", "")) for f in made} & kinds, f"{room}:{statement.lineno}"
