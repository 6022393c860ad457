"""The rooms: a package imports only from those below it, no file is too large, and help and mistakes need no TensorFlow."""

import ast
import builtins
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

LIBRARY = ROOT / "kerasft"

# From the bottom up. A package may import from any below it; inside a package, whatever is simple.
PACKAGES = (
    "settings",
    "console",
    "evaluation",
    "augment",
    "data",
    "optimization",
    "networks",
    "strategies",
    "storage",
    "evidence",
    "export",
    "runtimes",
    "probes",
    "training",
    "report",
    "predict",
    "serve",
    "job",
    "tune",
    "compare",
    "slim",
    "commands",
    "command_line",
    "run",
    "__main__",
)

# Importing one of these takes more than a tenth of a second.
HEAVY = ("tensorflow", "tensorflow_datasets", "keras", "keras_tuner", "sklearn", "scipy", "matplotlib")

# What help, a mistake in a flag or a page needs.
LIGHT = (
    "kerasft",
    "kerasft.run",
    "kerasft.command_line",
    "kerasft.commands",
    "kerasft.compare",
    "kerasft.report",
    "kerasft.data.sources",
    "kerasft.data.splits",
    "kerasft.storage.run_folder",
    "kerasft.storage.manifest",
    "kerasft.storage.disk_space",
    "kerasft.export.model_folders",
    "kerasft.runtimes.portable",
    "kerasft.predict.local",
    "kerasft.networks.published_accuracy",
    "kerasft.console.stderr_filter",
)


def _name(path: Path) -> str:
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in LIBRARY.rglob("*.py") if _name(path)}


def _packages(path: Path) -> set[str]:
    """The packages of kerasft that a file imports from, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("kerasft.")}
    return found & {name.split(".")[0] for name in FILES}


def test_every_file_is_in_a_package():
    assert {name.split(".")[0] for name in FILES} <= set(PACKAGES)


@pytest.mark.parametrize("name", FILES)
def test_imports_go_one_way(name):
    allowed = PACKAGES[: PACKAGES.index(name.split(".")[0]) + 1]
    assert _packages(FILES[name]) <= set(allowed)


@pytest.mark.parametrize("package", [name for name, path in FILES.items() if path.name == "__init__.py"])
def test_every_package_says_what_it_is_for(package):
    text = ast.get_docstring(ast.parse(FILES[package].read_text()))
    assert text and text.splitlines()[0].endswith(".")


def test_what_is_light_loads_nothing_heavy():
    code = f"import sys, {', '.join(LIGHT)}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_only_freezing_touches_trainable():
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "trainable":
                read = isinstance(node.ctx, ast.Load)
                assert name == "strategies.freezing" or (name == "networks.fused_batch_norm" and read), name


def test_nobody_compares_the_name_of_a_strategy():
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            compared = [side for side in sides if isinstance(side, ast.Attribute) and side.attr == "strategy"]
            assert not compared or name == "strategies.phase", f"{name}:{node.lineno}"


def test_flags_are_read_in_run_only():
    for name, path in FILES.items():
        assert ("flags.FLAGS" in path.read_text()) == (name == "run")


def test_no_file_is_too_large():
    sizes = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert {name: size for name, size in sizes.items() if size > 300} == {}


def test_the_library_has_no_assert():
    for name, path in FILES.items():
        assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)], name


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


def test_no_two_test_modules_have_the_same_name():
    """Without packages, pytest imports one of them for both."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
