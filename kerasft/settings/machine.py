"""Memory and cores that this process may use. In a container its limits count, not those of the host."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from kerasft.settings.errors import UserError

try:
    import resource
# Windows does not have it.
except ImportError:
    resource = None

_ROOT = Path("/")

# Environment variables that TensorFlow and OpenMP (and with it OpenBLAS) take their number of threads from.
THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def check_system(platform: str = sys.platform) -> None:
    """Raises a UserError on Windows: files, memory and standard error are used as POSIX has them."""
    if platform == "win32":
        raise UserError("kerasft: does not run on Windows itself; use it in WSL 2. Received: Windows")


def available_bytes(root: Path = _ROOT) -> int:
    """Returns the bytes of memory that this process may use: those of the machine, or the lowest limit of its control groups.

    Args:
        root: the folder of `proc` and of the control groups (cgroup v1 and v2, see docs.kernel.org/admin-guide).
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder, unified in _groups("memory", root):
        # Above memory.high the kernel slows a process down until it hardly moves.
        names = ("memory.max", "memory.high") if unified else ("memory.limit_in_bytes",)
        limits = [word for name in names for word in _read(folder / name)]
        # A container that sees only its own group finds those around it here.
        limits += [] if unified else _after("hierarchical_memory_limit", _read(folder / "memory.stat"))
        found += [int(limit) for limit in limits if limit.isdigit()]
    return min(found)


def peak_bytes(root: Path = _ROOT) -> int:
    """Returns the largest resident memory that this process has had, in bytes; 0 where the system does not tell.

    `ru_maxrss` counts in what the process that started this one had then (proc(5), getrusage(2)). So `VmHWM` is read first.
    """
    for words in map(str.split, _lines(root / "proc/self/status")):
        if words[:1] == ["VmHWM:"]:
            return 1024 * int(words[1])
    if resource is None:
        return 0
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cpu_count(root: Path = _ROOT) -> int:
    """Returns the cores that this process may use: those of its affinity, or the lowest quota of its control groups.

    Args:
        root: as in `available_bytes`.
    """
    found = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for folder, unified in _groups("cpu", root):
        if unified:
            quota = _read(folder / "cpu.max")
        else:
            quota = _read(folder / "cpu.cfs_quota_us") + _read(folder / "cpu.cfs_period_us")
        if len(quota) == 2 and all(number.isdigit() for number in quota) and int(quota[1]):
            found.append(math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, min(found))


def limit_threads() -> None:
    """Limits the threads of TensorFlow and OpenMP to a quota, which they ignore. Call this before they are imported."""
    cores = cpu_count()
    if cores < (os.cpu_count() or 1):
        for name in THREAD_VARIABLES:
            os.environ.setdefault(name, str(cores))


def _groups(controller: str, root: Path) -> Iterator[tuple[Path, bool]]:
    """Yields the folders of this process's control groups, the innermost first, and whether each is of version 2."""
    paths = dict(
        line.rstrip("\n").split(":", 2)[1:] for line in _lines(root / "proc/self/cgroup") if line.count(":") > 1
    )
    by_controller = {name: path for names, path in paths.items() for name in names.split(",")}
    for line in _lines(root / "proc/self/mounts"):
        _, place, kind, options, *_ = line.split(" ")
        unified = kind == "cgroup2"
        name = "" if unified else controller
        if name not in by_controller or not (unified or (kind == "cgroup" and controller in options.split(","))):
            continue
        # In a container the path may be that of the host, and only its end is mounted. A folder that is missing has no limit.
        top, inner = root / place.lstrip("/"), Path(by_controller[name].lstrip("/"))
        yield from ((top / folder, unified) for folder in (inner, *inner.parents) if ".." not in folder.parts)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _after(name: str, words: list[str]) -> list[str]:
    """The word after a name; none where the name is not there."""
    return words[words.index(name) + 1 :][:1] if name in words else []


def _read(path: Path) -> list[str]:
    """Returns the words of a file; none if it does not exist."""
    return " ".join(_lines(path)).split()
