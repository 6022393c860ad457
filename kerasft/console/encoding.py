"""The encoding of what is printed."""

import sys


def escape_unprintable() -> None:
    """Escapes what the encoding of standard output does not have, such as a no-break space where it is ASCII."""
    for stream in (sys.stdout, sys.stderr):
        # What stands for a stream, in a notebook for example, may have no encoding.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
