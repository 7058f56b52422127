"""What a process and all that it has started cost: processor time and memory, from Linux's /proc."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """Returns the processor time, user and system, of this process and all its descendants, whether or not they run.

    A process that has ended counts from the moment its parent has waited for it. One whose parent never does, or that
    has left the tree because its parent ended first, is missing from then on, so measure over a span in which no such
    process ends. Linux counts in steps of 10 ms for each process.
    """
    return sum(_ticks(pid) for pid in family()) / TICKS


def memory_bytes() -> int:
    """Returns the memory of this process and its descendants now; what several of them share counts once.

    Files that are mapped into memory count as far as their pages are in use, Ray's object store likewise.
    """
    return sum(_proportional_kib(pid) for pid in family()) * 1024


def thread_seconds(root: int) -> dict[tuple[str, int], float]:
    """Returns the processor time of each thread of a process and its descendants, by its name and its id.

    The name is that of the process, and for training workers also the thread's own; there is none once `root` is gone.
    """
    found = {}
    for pid in family(root):
        with contextlib.suppress(OSError):  # it may end at any time
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            words = [Path(word).name for word in command if word and not word.startswith("-")]
            name = next((word for word in words if not word.startswith("python")), "python")
            for thread in Path(f"/proc/{pid}/task").iterdir():
                own = (thread / "comm").read_text().strip()
                full = f"{name}, {own}" if "TrainWorker" in name else name
                found[full, int(thread.name)] = sum(int(field) for field in _stat(thread)[11:13]) / TICKS
    return found


def family(root: int | None = None) -> set[int]:
    """Returns the pids of a process, by default this one, and of all its living descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        fields = _stat(path)
        if fields:
            children.setdefault(int(fields[1]), []).append(int(path.name))
    found, coming = set(), [root or os.getpid()]
    while coming:
        pid = coming.pop()
        found.add(pid)
        coming += children.get(pid, [])
    return found


def _stat(folder: Path) -> list[str]:
    """Returns the fields of `stat` from the third, the state, on; none if the process or thread is gone."""
    try:
        return (folder / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def _ticks(pid: int) -> int:
    return sum(
        int(field) for field in _stat(Path(f"/proc/{pid}"))[11:15]
    )  # utime, stime, and those of the children it has waited for


def _proportional_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
