"""Connects to Ray: to the cluster that RAY_ADDRESS names (a submitted job has it set), or to one in this process."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
import threading
from pathlib import Path

import ray
import ray.data  # configures its own logging when it is imported

from faceae import ray_compat
from faceae.console import out
from faceae.ray_compat import is_local

DATA_CPUS = 2
"""Logical CPUs kept for Ray Data on a small machine, besides one for each training worker."""


def connect(training_cpus: int) -> None:
    """Connects to the cluster, or starts one in this process; does nothing if Ray is already running.

    On a small machine the logical CPU count is raised: training workers hold one CPU each for the whole run,
    and without spare ones Ray Data would wait for a CPU forever.

    Args:
        training_cpus: number of CPUs that the training workers hold at a time.
    """
    for name in ("ray", "ray.data"):  # hides Ray's plans and timings; its log files keep them
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    ray_compat.silence_raylet_errors()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if is_local():
        cpus = max(os.cpu_count() or 1, training_cpus + DATA_CPUS)
        ray_compat.set_defaults(ray_compat.LOCAL_ENVIRONMENT)
        if os.environ.get("RAY_AUTH_MODE", "token").lower() == "token":
            make_token()
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    else:
        ray.init(**quiet)
    if threading.current_thread() is threading.main_thread():
        # `ray job stop` sends SIGTERM: it ends a run as Ctrl-C does. Ray's own handler would exit at once.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def make_token() -> None:
    """Writes the token that Ray's local clusters ask for, unless there is one, so that no other user can read it.

    Ray would write it readable for everybody, and whoever has it can run code as this user. A token that others can
    read already is left as it is, with a note: it may be in use.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # mode 0600
            file.write(secrets.token_hex(32))
            file.flush()
            os.link(file.name, path)  # whole or not at all, and never in place of another
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            out.print(f"note      {path} is your Ray clusters' password, and others can read it: chmod 600 {path}")
    except OSError:
        pass  # Ray will say what is wrong with the folder
