"""Memory and cores that this process may use. In a container its limits count, not those of the host."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def available_bytes(root: Path = _ROOT) -> int:
    """Returns the bytes of memory that this process may use: those of the machine, or the lowest limit of its control groups.

    Args:
        root: the folder of `proc` and of the control groups (cgroup v1 and v2, see docs.kernel.org/admin-guide).
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder, unified in _groups("memory", root):
        limit = _read(folder / ("memory.max" if unified else "memory.limit_in_bytes"))
        found += [int(limit[0])] if limit and limit[0].isdigit() else []
    return min(found)


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
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(cores))
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


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


def _read(path: Path) -> list[str]:
    """Returns the words of a file; none if it does not exist."""
    return " ".join(_lines(path)).split()
