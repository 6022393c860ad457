"""Signals that wait: noticed at once, acted upon at the end of the block."""

import os
import signal
import threading

import pytest

from kerasft.training import signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number):
    before = signal.getsignal(number)
    reached = []
    with pytest.raises(KeyboardInterrupt), signals.deferred() as came:
        assert not came()
        os.kill(os.getpid(), number)
        assert came()
        reached.append(True)
    assert reached
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait():
    reached = []
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append(True)
    assert not reached


def test_nothing_happens_without_a_signal_or_outside_of_the_main_thread():
    with signals.deferred() as came:
        assert not came()
    said = []

    def work():
        with signals.deferred() as came:
            said.append(came())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [False]


def test_an_error_in_the_block_comes_through():
    with pytest.raises(ZeroDivisionError), signals.deferred():
        1 / 0  # noqa: B018
