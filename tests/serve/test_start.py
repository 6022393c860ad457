"""The flags of `--mode=serve`: ranges, the key file, the port, and what is missing; no server is started."""

import socket

import pytest

from kerasft.serve import start
from kerasft.settings import command_flags
from kerasft.settings.errors import UserError

DEFAULTS = {name: default for name, (_, default, _) in command_flags.COMMAND.items()}


def test_the_defaults_give_limits_in_bytes_pixels_and_seconds():
    limits = start.make_limits(DEFAULTS)
    assert limits == (32_000_000, 50_000_000, 256, 32, 0.005, 30.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 70000), ("max_batch", 0), ("max_delay_ms", -1.0), ("max_queue", 0), ("timeout_seconds", float("nan"))],
)
def test_a_flag_out_of_range_names_the_rule(name, value):
    with pytest.raises(UserError, match=rf"^--{name}: must be from .* to .*\. Received: {value}$"):
        start.make_limits({**DEFAULTS, name: value})


def test_keys_are_the_lines_of_a_file(tmp_path):
    (tmp_path / "keys").write_text("one\n\n  two \n")
    assert start.read_keys(str(tmp_path / "keys")) == ("one", "two")


@pytest.mark.parametrize("content", [None, "", " \n", "käse\n"])
def test_a_file_without_a_key_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "keys").write_text(content)
    with pytest.raises(UserError, match=r"^--api_key_file: .*Received: "):
        start.read_keys(str(tmp_path / "keys"))


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^--port: cannot listen there \(.*\)\. Received: '127.0.0.1:{port}'$"):
            start.bind_socket("127.0.0.1", port)
    with start.bind_socket("127.0.0.1", port) as free:
        assert free.getsockname()[1] == port


def test_an_unknown_host_is_said():
    with pytest.raises(UserError, match=r"^--host: cannot listen there"):
        start.bind_socket("nowhere.invalid", 0)


@pytest.mark.parametrize("host", ["192.168..1", "x" * 64])
def test_a_mistyped_host_is_said(host):
    with pytest.raises(UserError, match=rf"^--host: .* Received: '{host}'$"):
        start.bind_socket(host, 0)


def test_a_model_is_needed(command, tmp_path):
    done = command("--mode=serve", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--model: the folder of an exported model is needed")


def test_a_model_that_is_nowhere_is_said_at_once(command, tmp_path):
    done = command("--mode=serve", "--model=nowhere", cwd=tmp_path)
    message = "--model: there is no such folder. Received: 'nowhere'"
    assert (done.returncode, done.stderr.strip()) == (2, message)


def test_the_package_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'kerasft\[serve\]'"):
        start.serve({**DEFAULTS, "model": str(tmp_path)})
