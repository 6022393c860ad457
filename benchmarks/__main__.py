"""Lists every benchmark by room: what it measures, and its command.

python -m benchmarks
"""

import ast
from pathlib import Path

from benchmarks import ROOMS

HERE = Path(__file__).parent


def commands(script: Path) -> list[str]:
    """The commands that a script's docstring shows; empty for a part of another script."""
    text = ast.get_docstring(ast.parse(script.read_text())) or ""
    return [line.strip() for line in text.splitlines() if line.strip().startswith(f"python benchmarks/{name(script)}")]


def name(script: Path) -> str:
    """A script as `ROOM/FILE.py`."""
    return script.relative_to(HERE).as_posix()


def main() -> None:
    for room, purpose in ROOMS.items():
        print(f"{room}: {purpose}")
        for script in sorted((HERE / room).glob("*.py")):
            shown = commands(script)
            if shown:
                print(f"  {ast.get_docstring(ast.parse(script.read_text())).splitlines()[0]}")
                print("\n".join(f"    {line}" for line in shown))
        print()
    print("All in a short form, one after the other: make bench")


if __name__ == "__main__":
    main()
