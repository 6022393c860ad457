"""What the process may use: the limits of cgroup v1 and v2, of its own group and of those around it."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from kerasft.settings import machine
from kerasft.settings.errors import UserError

GIB = 1 << 30


def _system(root, cgroup, mounts, files):
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mounts": mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
V1 = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"


def test_version_2_the_least_of_all_groups_above(tmp_path):
    files = {
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/memory.max": f"{GIB // 4}\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
    }
    root = _system(tmp_path, "0::/a/b\n", V2, files)
    assert machine.available_bytes(root) == GIB // 4
    assert machine.cpu_count(root) == 1


def test_version_1_where_only_the_end_of_the_path_is_mounted(tmp_path):
    cgroup = "5:memory:/docker/0123\n4:cpu,cpuacct:/docker/0123\n1:name=systemd:/\n"
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB // 8}\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    root = _system(tmp_path, cgroup, V1, files)
    assert machine.available_bytes(root) == GIB // 8
    assert machine.cpu_count(root) == 1


@pytest.mark.parametrize(
    ("mounts", "files"),
    [
        ("", {}),
        (V2, {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/cpu.max": "max 100000"}),
        (
            V1,
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
        ),
    ],
)
def test_without_a_limit_it_is_the_machine(tmp_path, mounts, files):
    root = _system(tmp_path, "5:memory:/\n4:cpu,cpuacct:/\n0::/\n", mounts, files)
    assert machine.available_bytes(root) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.cpu_count(root) == len(os.sched_getaffinity(0))


def test_libraries_are_told_of_a_quota(monkeypatch):
    monkeypatch.setattr(machine, "cpu_count", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # the user's own word
    machine.limit_threads()
    assert [os.environ[name] for name in machine.THREAD_VARIABLES] == ["3", "3", "2"]


def test_without_a_quota_libraries_are_told_nothing(monkeypatch):
    monkeypatch.setattr(machine, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    machine.limit_threads()
    assert not {*machine.THREAD_VARIABLES} & {*os.environ}


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files"),
    [
        ("0::/\n", V2, {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.high": f"{GIB // 2}"}),
        (
            "5:memory:/docker/0123\n",
            V1,
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.stat": f"cache 4096\nhierarchical_memory_limit {GIB // 2}\ntotal_rss 1\n",
            },
        ),
    ],
)
def test_memory_that_is_slowed_down_or_limited_from_outside(tmp_path, cgroup, mounts, files):
    assert machine.available_bytes(_system(tmp_path, cgroup, mounts, files)) == GIB // 2


def test_cores_of_a_quota_are_rounded_up_and_never_more_than_the_process_may_run_on(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)})
    for quota, cores in (("250000 100000", 3), ("1200000 100000", 8), ("1000 100000", 1)):
        root = _system(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": quota})
        assert machine.cpu_count(root) == cores


def test_the_peak_of_memory_is_that_of_this_process_alone(tmp_path):
    root = _system(tmp_path, "0::/\n", "", {"proc/self/status": "Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n"})
    assert machine.peak_bytes(root) == 2048 * 1024
    assert machine.peak_bytes(tmp_path / "no proc") > 10 * 2**20


def test_without_the_modules_of_posix_the_help_is_shown_and_a_run_is_refused():
    blocked = "import sys; sys.modules['resource'] = sys.modules['fcntl'] = None; "
    line = [
        sys.executable,
        "-c",
        blocked + "sys.argv = ['kerasft', '--help']; from kerasft import __main__ as m; m.console()",
    ]
    done = subprocess.run(
        line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120
    )
    assert done.returncode == 0 and "Usage: kerasft" in done.stdout, done.stderr
    machine.check_system("linux")
    with pytest.raises(UserError, match=r"use it in WSL 2. Received: Windows"):
        machine.check_system("win32")
