"""Errors of the disk: the flag, the file, and what to do; any other error stays what it is."""

import errno
import os

import pytest

from kerasft.settings import failures


def _error(code: int, name: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), name)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space, or name a folder on another disk"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EFBIG, "the file would be larger than this process may write (see ulimit -f)"),
        (errno.EROFS, "the disk is read-only"),
        (errno.ENAMETOOLONG, "the name is too long"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_the_flag_and_the_file_are_named(tmp_path, code, words):
    places = {"--run_dir": str(tmp_path / "a"), "--export_dir": str(tmp_path / "a" / "b")}
    (line,) = failures.describe(_error(code, str(tmp_path / "a" / "b" / "c")), places)
    assert line.startswith(f"--export_dir: {words}")
    assert line.endswith(f"Received: {str(tmp_path / 'a' / 'b' / 'c')!r}")
    (line,) = failures.describe(_error(code, str(tmp_path / "a" / "bc")), places)
    assert line.startswith("--run_dir: ")


def test_a_library_that_tells_it_in_its_text_is_understood(tmp_path):
    error = RuntimeError(f"{tmp_path}/x/variables; No space left on device")
    error.add_note("about 1.0 GB are needed in all")
    (line,) = failures.describe(error, {"--export_dir": str(tmp_path)})
    assert line.startswith("--export_dir: the disk is full")
    assert "are free); about 1.0 GB are needed in all; what was saved is kept, and the same command resumes" in line


def test_our_own_errors_are_not_hidden():
    assert failures.describe(ValueError("x"), {}) is None
    assert failures.report(ValueError("x"), {}) is None


def test_free_space_is_that_of_the_nearest_folder(tmp_path):
    assert failures.free_bytes(tmp_path / "not" / "yet") > 0
    assert [failures.format_bytes(count) for count in (2.5e9, 35e6)] == ["2.5 GB", "35 MB"]


def test_a_package_that_is_not_installed_is_named(capsys):
    with pytest.raises(ModuleNotFoundError) as caught:
        import no_such_package.inner  # noqa: F401
    assert failures.report(caught.value, {}) == failures.EXIT_MISTAKE
    assert capsys.readouterr().err.startswith("this needs the package no_such_package: pip install kerasft. Received: ")
    # A module of kerasft that is missing is a bug.
    assert failures.report(ModuleNotFoundError(name="kerasft.nowhere"), {}) is None
