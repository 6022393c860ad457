"""Files of the user's: nothing but regular ones up to a stated size is opened."""

import os
import socket

import pytest

from kerasft.data import files
from kerasft.settings.errors import UserError


def test_a_regular_file_is_read_and_so_is_a_link_to_one(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    assert files.read(tmp_path / "a.jpg") == files.read(tmp_path / "b.jpg") == b"abc"


def test_what_would_never_end_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    for name in ("pipe", "zero", "socket"):
        with pytest.raises(ValueError, match="is no regular file"):
            files.read(tmp_path / name)
    with pytest.raises(ValueError, match="is a folder"):
        files.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "gone")


def test_a_sparse_file_of_60_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(ValueError, match="has more than 256 MiB"):
        files.read(tmp_path / "large.jpg")


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files, "check", lambda path, most: None)
    with pytest.raises(ValueError, match="is no regular file"):
        files.read(tmp_path / "pipe")


def test_a_path_that_cannot_be_one_is_a_message(tmp_path):
    assert files.expand(str(tmp_path / "nothing"), "--data") == tmp_path / "nothing"
    with pytest.raises(UserError, match="--data: ~ must be the home of a user"):
        files.expand("~nosuchuser/x", "--data")
    with pytest.raises(UserError, match="--exclude: is too long for the name of a file"):
        files.expand("x" * 300, "--exclude")
