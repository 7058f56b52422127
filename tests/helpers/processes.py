"""Finds the processes that a run leaves behind, and ends them."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def assert_no_process_is_left(session: int) -> None:
    """Ray's processes must end with the driver that started them; they share its session id."""
    for _ in range(200):  # Ray's agents check for their raylet every few seconds
        if not processes_of(session):
            return
        time.sleep(0.2)
    raise AssertionError(f"left behind: {processes_of(session)}")


def kill_session(session: int) -> None:
    """Kills all processes of a session: some of Ray's outlive their driver by a minute or two."""
    for pid in processes_of(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_when(job: subprocess.Popen, reached: Callable[[], bool]) -> None:
    """Kills a job, which was started in a session of its own, once it is so far; it must not end before."""
    try:
        while not reached():
            assert job.poll() is None, job.stdout.read()
            time.sleep(0.05)
    finally:
        job.kill()
        job.wait()
        kill_session(job.pid)
    assert_no_process_is_left(job.pid)


def processes_of(session: int) -> dict[int, str]:
    """The pids and names of a session's processes that have not ended."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = path.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        state, _, _, its_session = rest.split()[:4]
        if int(its_session) == session and state != "Z":
            found[int(path.parent.name)] = name
    return found
