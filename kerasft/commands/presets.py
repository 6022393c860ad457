"""`kerasft presets`: lists the presets and their purpose."""

import shutil
import textwrap

from kerasft.console.columns import write
from kerasft.settings import presets


def run(argument: str) -> None:
    """Prints name and purpose of each preset, wrapped to the width of the terminal."""
    width = shutil.get_terminal_size().columns
    lines = []
    for name in presets.names():
        text = textwrap.fill(presets.purpose(name), width, initial_indent="    ", subsequent_indent="    ")
        lines.append(f"{name}\n{text}")
    lines.append("Use one with --preset=NAME; a flag after it wins over it.")
    lines.append(f"The files are in {presets.folder()}.")
    write("\n".join(lines))
