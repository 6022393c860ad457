"""Signals that wait: noticed at once, acted upon at the end of the block."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from kerasft.training import deferred_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number):
    before = signal.getsignal(number)
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_signals.deferred() as came:
        assert not came()
        os.kill(os.getpid(), number)
        assert came()
        reached.append(True)
    assert reached
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait():
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append(True)
    assert not reached


def test_nothing_happens_without_a_signal_or_outside_of_the_main_thread():
    with deferred_signals.deferred() as came:
        assert not came()
    said = []

    def work():
        with deferred_signals.deferred() as came:
            said.append(came())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [False]


def test_an_error_in_the_block_comes_through():
    with pytest.raises(ZeroDivisionError), deferred_signals.deferred():
        1 / 0  # noqa: B018


STOPPED = """
import sys, time
from kerasft.training import deferred_signals

deferred_signals.stop_on_sigterm()

class Slow:
    def __del__(self):
        print("now", flush=True)
        time.sleep({asleep})

try:
    {work}
    print("goes on")
    sys.exit(0)
except KeyboardInterrupt:
    deferred_signals.clear_interrupt_mark()
    print("stops")
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("work", "asleep"),
    [
        ("one = Slow(); del one; time.sleep(30)", 5),  # the signal strikes where Python swallows what is raised
        ("exec('print(\"now\", flush=True); time.sleep(30)')", 0),  # Python marks the interpreter as interrupted
    ],
)
def test_sigterm_ends_with_our_status_wherever_it_strikes(work, asleep, tmp_path):
    (tmp_path / "stopped.py").write_text(STOPPED.format(work=work, asleep=asleep))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with subprocess.Popen(
        [sys.executable, "-m", "stopped"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=25)
    assert (process.returncode, out, err) == (3, "stops\n", "")


def test_a_signal_that_comes_when_the_work_is_done_changes_no_status():
    code = "import os, signal\nfrom kerasft.training import deferred_signals\ndeferred_signals.stop_on_sigterm()\ndeferred_signals.ignore_sigterm()\n"
    code += "import atexit\natexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
