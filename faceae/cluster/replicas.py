"""Placement of the model replicas of jobs/evaluate.py and jobs/reconstruct.py."""

from __future__ import annotations

from faceae.cluster.placement import place, resources
from faceae.config import Scale
from faceae.config.jobs import ReplicaScale
from faceae.data.execution import Replicas

REPLICA_CPUS = 2
"""Threads of a replica that runs on CPUs; as many are left to reading."""


def plan_replicas(scale: ReplicaScale) -> Replicas:
    """Plans a replica on each GPU or, without GPUs, replicas on half of the CPUs; the other half is left to reading.

    Raises:
        InputError: the settings ask for GPUs and there are none.
    """
    placed = place(Scale(gpu=scale.gpu))
    if placed.gpu:
        return Replicas(placed.workers, 1, placed.gpu)
    cpus = resources()["CPU"]
    return Replicas(max(1, int(cpus) // (2 * REPLICA_CPUS)), min(REPLICA_CPUS, cpus / 2), 0.0)
