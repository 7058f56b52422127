"""Where the copies of a model run that jobs/evaluate.py and jobs/reconstruct.py work with."""

from __future__ import annotations

from faceae.cluster.placement import place, resources
from faceae.config import Scale
from faceae.config.jobs import Machines
from faceae.data.execution import Copies

COPY_CPUS = 2
"""Threads of a copy of the model, where it runs on CPUs; as many are left to reading."""


def copies(machines: Machines) -> Copies:
    """One on each GPU; or on CPUs, of which half are left to reading.

    Raises:
        InputError: GPUs are asked for and there are none.
    """
    placed = place(Scale(gpu=machines.gpu))
    if placed.gpu:
        return Copies(placed.workers, 1, placed.gpu)
    cpus = resources()["CPU"]
    return Copies(max(1, int(cpus) // (2 * COPY_CPUS)), min(COPY_CPUS, cpus / 2), 0.0)
