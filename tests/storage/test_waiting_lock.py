"""A lock that another process holds is waited for, and that is said."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock

from kerasft.storage.waiting_lock import waiting_lock


def test_it_waits_and_says_so_once(tmp_path, capsys):
    path = tmp_path / "entry.lock"

    def enter():
        with waiting_lock(path, "waiting for the other"):
            return "in"

    with ThreadPoolExecutor(1) as pool:
        with FileLock(path, thread_local=False):
            waiting = pool.submit(enter)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            assert capsys.readouterr().out.count("waiting for the other") == 1
        assert waiting.result(timeout=30) == "in"
    # It is free again, also after an error.
    with pytest.raises(ZeroDivisionError), waiting_lock(path, "again"):
        raise ZeroDivisionError
    enter()
    assert capsys.readouterr().out == ""
