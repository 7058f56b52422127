"""The Ray cluster: the one that RAY_ADDRESS names (a submitted job has it set), or one inside this process."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from dataclasses import dataclass
from typing import Literal

import ray
import ray.data  # configures its own logging when it is imported
from ray._private.state import state

from faceae.config import Scale
from faceae.console import count
from faceae.errors import InputError

DATA_CPUS = 2
"""Logical CPUs kept for Ray Data on a small machine, beside one for each training worker."""


@dataclass(frozen=True)
class Placement:
    """What the training runs on.

    Attributes:
        workers: training processes of a run.
        gpu: share of a GPU that each of them has; 0 on the CPU.
        concurrent: runs at a time: the trials of a grid share the cluster.
    """

    workers: int
    gpu: float
    concurrent: int = 1

    def __str__(self) -> str:
        device = "CPU" if not self.gpu else "GPU" if self.gpu == 1 else f"{self.gpu:g} of a GPU"
        each = " each" if self.workers > 1 and self.gpu else ""
        return f"{count(self.workers, 'training worker')} on {device}{each}"

    def mask_tasks(self) -> int:
        """How many Ray Data tasks may prepare batches for one training worker at a time."""
        training = self.workers * self.concurrent
        free = int(ray.cluster_resources().get("CPU", 1)) - training
        return max(1, min(4, free // training))

    def neighbours(self) -> int:
        """How many training workers, of all runs, share a node."""
        nodes = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
        return math.ceil(self.workers * self.concurrent / max(1, nodes))


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
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if is_local():
        cpus = max(os.cpu_count() or 1, training_cpus + DATA_CPUS)
        # Nobody takes nodes away from a machine of one's own; Ray Train would start a process to watch for it.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # A small machine starts more processes than Ray expects of it; Ray would say so in every terminal (ray#63800).
        os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "16")
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    else:
        ray.init(**quiet)


def is_local() -> bool:
    """Whether the cluster is started in this process, on this machine."""
    return not os.environ.get("RAY_ADDRESS")


def place(scale: Scale) -> Placement:
    """Decides on workers and GPUs from the settings and the cluster.

    Raises:
        InputError: more is asked for than there is, on a cluster that will not grow.
    """
    resources = ray.cluster_resources()
    gpus, share = resources.get("GPU", 0), scale.gpus_per_worker
    if scale.gpu == "off" or (scale.gpu == "auto" and not gpus):
        placement = Placement(scale.workers or 1, gpu=0)
    else:
        placement = Placement(scale.workers or (max(1, int(gpus)) if share == 1 else 1), share)
    if _grows():
        return placement
    if placement.workers * placement.gpu > gpus:
        if not gpus:
            raise InputError("--scale.gpu on: there is no GPU; use --scale.gpu off, or set RAY_ADDRESS to a cluster")
        raise InputError(
            f"--scale.workers {placement.workers}: each worker needs a GPU and there are {gpus:g}; use fewer workers, "
            "--scale.gpu off, or set RAY_ADDRESS to a larger cluster"
        )
    if placement.workers >= resources.get("CPU", 0):
        raise InputError(
            f"--scale.workers {placement.workers}: each takes a CPU, Ray Data needs another, and the cluster has "
            f"{resources.get('CPU', 0):g}; use fewer workers or a larger cluster"
        )
    return placement


def place_trials(scale: Scale, concurrent: int | Literal["auto"], trials: int) -> Placement:
    """Decides how many trials run at a time, each with one worker unless the settings say more.

    A CPU is left to Ray Data in any case: the trials wait for it, and it would otherwise wait for them.

    Raises:
        InputError: there is no room for the trials, on a cluster that will not grow.
    """
    one = place(dataclasses.replace(scale, workers=scale.workers or 1))
    resources = ray.cluster_resources()
    room = max(1, (resources.get("CPU", 0) - DATA_CPUS) // one.workers)  # a single CPU is left to one, see `place`
    if one.gpu:
        room = min(room, resources.get("GPU", 0) // (one.workers * one.gpu))
    wanted = max(1, min(int(room), trials)) if concurrent == "auto" else concurrent
    if wanted > room and not _grows():
        raise InputError(
            f"--tune.concurrent {wanted}: the cluster has room for {count(room, 'trial')} at a time, each with "
            f"{one}, beside Ray Data ({count(resources.get('CPU', 0), 'CPU')}, {count(resources.get('GPU', 0), 'GPU')})"
        )
    return dataclasses.replace(one, concurrent=min(wanted, trials))


def _grows() -> bool:
    """Whether the cluster has an autoscaler that may add nodes."""
    return not is_local() and state.get_cluster_config() is not None
