"""The table of CONTRIBUTING.md names files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_exists():
    paths = re.findall(r"`((?:kerasft|tests|benchmarks|docs)/[\w./-]+)`", TEXT)
    assert len(set(paths)) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_constant_exists():
    sources = "".join(path.read_text() for path in (ROOT / "kerasft").rglob("*.py"))
    names = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", TEXT)) - {"KERASFT_SHARED"}
    assert names and all(re.search(rf"^{name} =", sources, re.MULTILINE) for name in names)


def test_files_without_a_folder_are_in_the_folder_of_their_row():
    (row,) = [line for line in TEXT.splitlines() if line.startswith("| Add an augmentation")]
    names = re.findall(r"`(\w+\.py)`", row)
    assert names and all((ROOT / "kerasft/augment" / name).is_file() for name in names)
