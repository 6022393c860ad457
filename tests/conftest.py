"""Small real data for all tests, and the command as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]


def shared(*parts: str) -> Path:
    """A path in the folder of real photographs and weights, or a skip where it is missing."""
    path = Path(os.environ.get("KERASFT_SHARED", ROOT.parent / "shared"), *parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} of the shared folder (KERASFT_SHARED)")
    return path


def picture(kind: str, rng: np.random.Generator, width: int = 60, height: int = 48) -> Image.Image:
    """A noisy background with a disc or a square in a random place and colour."""
    noise = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    x, y, side = rng.integers(4, width - 30), rng.integers(4, height - 30), rng.integers(16, 26)
    draw = ImageDraw.Draw(image)
    box = (int(x), int(y), int(x + side), int(y + side))
    colour = tuple(int(c) for c in rng.integers(150, 255, 3))
    draw.ellipse(box, fill=colour) if kind == "disc" else draw.rectangle(box, fill=colour)
    return image


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Two classes of 24 JPEGs each, one sub-folder a class."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    rng = np.random.default_rng(7)
    for kind in ("disc", "square"):
        (root / kind).mkdir(parents=True)
        for index in range(24):
            picture(kind, rng).save(root / kind / f"{index:02d}.jpg", quality=90)
    return root


@pytest.fixture
def command():
    """Runs `python -m kerasft.run` in a process of its own and returns it finished."""

    def run(*flags: str, cwd: Path, module: str = "kerasft.run") -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
        line = [sys.executable, "-m", module, *flags]
        return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)

    return run


def write(path: Path, kind: str = "disc", seed: int = 0) -> None:
    """A picture in a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(kind, np.random.default_rng(seed)).save(path)


@pytest.fixture
def split_folder(tmp_path) -> Path:
    """Discs and squares under train/, val/ and test/: 6, 2 and 3 of each."""
    root = tmp_path / "set"
    seed = 0
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for kind in ("disc", "square"):
            for index in range(count):
                seed += 1
                write(root / part / kind / f"{index}.png", kind, seed)
    return root


def audited(data: str, **settings):
    """The audited Listing of a source, and its pictures of 32x32 pixels."""
    from kerasft.config import Config
    from kerasft.data import sources
    from kerasft.data.audit import audit

    return audit(sources.load(Config(data=data, **settings)), 32, lambda count: None)


def carved(data: str, seed: int = 0, val: float = 0.25, test: float = 0.25, **settings):
    """The Splits of a source, as the job makes them."""
    from kerasft.data import splits

    return splits.carve(*audited(data, **settings), val, test, seed, settings.get("per_class_limit"))
