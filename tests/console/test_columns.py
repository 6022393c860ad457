"""Plain tables, and output into a pipe."""

import subprocess
import sys

from conftest import ROOT

from kerasft.console.columns import columns


def test_columns_line_up():
    table = columns(("name", "count", "note"), [("a", "12", "x"), ("bcd e", "1,234", "")], right=("count",))
    assert table.splitlines() == ["name   count  note", "a         12  x", "bcd e  1,234"]


def test_a_name_cannot_steer_the_terminal():
    table = columns(("name",), [("a\x1b[2Jb\nc\udcff 蚂蚁",)])
    assert table.splitlines()[1] == "a\\x1b[2Jb\\nc\\udcff 蚂蚁"


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "from kerasft.console.columns import write; write('x' * 10**6); write('y')"
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait(timeout=60) == 0
