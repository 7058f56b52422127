"""The Ray cluster: the one that RAY_ADDRESS names (a submitted job has it set), or one inside this process."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import ray
import ray.data  # configures its own logging when it is imported
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from faceae.config import Scale
from faceae.errors import InputError

DATA_CPUS = 2
"""Logical CPUs kept for Ray Data on a small machine, beside one for each training worker."""


@dataclass(frozen=True)
class Placement:
    """How many training workers there are, and whether each has a GPU."""

    workers: int
    gpu: bool

    def __str__(self) -> str:
        plural = "s" if self.workers > 1 else ""
        return f"{self.workers} training worker{plural} on {'GPU' if self.gpu else 'CPU'}{plural if self.gpu else ''}"


def connect(scale: Scale) -> None:
    """Connects to the cluster, or starts one in this process; does nothing when Ray is already running.

    On a small machine the logical CPU count is raised: training workers hold one CPU each for the whole run,
    and without more of them Ray Data would wait for a CPU for ever.
    """
    for name in ("ray", "ray.data"):  # plans and timings of Ray's own, which its log files keep
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        cpus = max(os.cpu_count() or 1, (scale.workers or 1) + DATA_CPUS)
        # Nobody takes nodes away from a machine of one's own; Ray Train would start a process to watch for it.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)


def place(scale: Scale) -> Placement:
    """Decides on workers and GPUs from the settings and the cluster.

    Raises:
        InputError: more GPUs are asked for than there are, on a cluster that will not grow.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if scale.gpu == "off" or (scale.gpu == "auto" and not gpus):
        return Placement(scale.workers or 1, gpu=False)
    workers = scale.workers or max(1, gpus)
    if workers > gpus and not os.environ.get("RAY_ADDRESS"):  # a cluster may grow, this machine will not
        if not gpus:
            raise InputError("--scale.gpu on: this machine has no GPU; use --scale.gpu off, or set RAY_ADDRESS")
        raise InputError(
            f"--scale.workers {workers}: each worker needs a GPU and this machine has {gpus}; use fewer workers, "
            "--scale.gpu off, or set RAY_ADDRESS to a larger cluster"
        )
    return Placement(workers, gpu=True)


def mask_tasks(workers: int) -> int:
    """How many Ray Data tasks may prepare batches for one training worker at a time."""
    free = int(ray.cluster_resources().get("CPU", 1)) - workers
    return max(1, min(4, free // workers))


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Schedules on the driver's own node: what must live as long as the driver."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
