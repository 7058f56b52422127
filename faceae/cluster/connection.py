"""The Ray cluster: the one that RAY_ADDRESS names (a submitted job has it set), or one inside this process."""

from __future__ import annotations

import logging
import os
import signal
import threading

import ray
import ray.data  # configures its own logging when it is imported

DATA_CPUS = 2
"""Logical CPUs kept for Ray Data on a small machine, beside one for each training worker."""


def connect(training_cpus: int) -> None:
    """Connects to the cluster, or starts one in this process; does nothing when Ray is already running.

    On a small machine the logical CPU count is raised: training workers hold one CPU each for the whole run,
    and without more of them Ray Data would wait for a CPU for ever.

    Args:
        training_cpus: CPUs that training workers will hold at a time.
    """
    for name in ("ray", "ray.data"):  # plans and timings of Ray's own, which its log files keep
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    # What Ray says of lost processes, sixty lines each, is in its logs; faceae says what it means for the run.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if is_local():
        cpus = max(os.cpu_count() or 1, training_cpus + DATA_CPUS)
        # Nobody takes nodes away from a machine of one's own; Ray Train would start a process to watch for it.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # Ray gives workers a niceness of 15: on a small machine all of its own processes would go before training.
        os.environ.setdefault("RAY_worker_niceness", "0")
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    else:
        ray.init(**quiet)
    if threading.current_thread() is threading.main_thread():
        # `ray job stop` sends SIGTERM: it ends a run as Ctrl-C does. Ray's own handler exits on the spot.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def is_local() -> bool:
    """Whether the cluster is started in this process, on this machine."""
    return not os.environ.get("RAY_ADDRESS")
