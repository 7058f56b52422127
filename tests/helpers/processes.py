"""The processes of a run."""

import time
from pathlib import Path


def assert_no_process_is_left(session: int) -> None:
    """Ray's processes must go with the driver that started them; they have its session id."""
    for _ in range(200):  # Ray's agents look for their raylet every few seconds
        if not processes_of(session):
            return
        time.sleep(0.2)
    raise AssertionError(f"left behind: {processes_of(session)}")


def processes_of(session: int) -> dict[int, str]:
    """The processes of a session that have not ended, and their names."""
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
