"""Running Ray Data: a task for each part of a source, its blocks in the source's order."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import ray
from ray.data import Datasource
from ray.util.annotations import RayDeprecationWarning

from faceae import ray_compat
from faceae.ray_compat import is_local

ray_compat.speed_up_short_executions()

_WHOLE: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}

NICENESS = 10
"""Of the processes that read and draw: training, and what has to start before it, goes first on a machine with few
cores."""


def lower_priority() -> None:
    """Called by a task of ours in its Ray worker: lets it wait for training, and not the other way round."""
    os.nice(max(0, NICENESS - os.nice(0)))


class Replicas(NamedTuple):
    """Processes that hold a copy of a model each.

    Attributes:
        size: how many there are.
        cpus: that each has.
        gpu: whether each has a GPU: 1.0, or 0.0.
    """

    size: int
    cpus: float
    gpu: float

    def at_most(self, parts: int) -> Replicas:
        """No more than there are parts to work on."""
        return self._replace(size=max(1, min(self.size, parts)))


@dataclass(frozen=True)
class ActorPool:
    """Processes that set themselves up once and then take block after block.

    Attributes:
        make: a class whose instances are called with a block, and return another.
        arguments: for its constructor.
        copies: how many there are, and what each has.
    """

    make: type
    arguments: tuple[Any, ...]
    replicas: Replicas


def execute(
    source: Datasource,
    parts: int,
    finish: Callable[[pa.Table], pa.Table] | None = None,
    pool: ActorPool | None = None,
) -> Iterator[tuple[ray.ObjectRef, int]]:
    """Reads a source on the cluster; what the read tasks yield stays in the object store.

    Args:
        source: to read.
        parts: its read tasks, all of which may run at a time; what one of them yields is one block.
        finish: applied to each block, by the task that read it.
        pool: applied to each block after that.

    Yields:
        Reference and rows of each block, when it is there.

    Raises:
        ray.exceptions.RayError: a task failed.
    """
    dataset = _dataset(source, parts)
    context = dataset.context
    context.target_max_block_size = None  # a block comes out in one piece
    context.execution_options.preserve_order = True  # the order of training must not depend on timing
    if finish:
        dataset = dataset.map_batches(finish, **_WHOLE)
    if pool:
        dataset = _through(dataset, pool)
    for bundle in dataset.iter_internal_ref_bundles():
        yield from ((block.ref, block.metadata.num_rows) for block in bundle.blocks)


def _through(dataset: ray.data.Dataset, pool: ActorPool) -> ray.data.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # Ray 2.60 knows no other way to set it
        return dataset.map_batches(
            pool.make,
            fn_constructor_args=pool.arguments,
            compute=ray.data.ActorPoolStrategy(size=pool.replicas.size),
            num_cpus=pool.replicas.cpus,
            num_gpus=pool.replicas.gpu,
            # They start again elsewhere when a node is lost, of which Ray warns; on one machine there is no elsewhere.
            ray_remote_args_fn=(lambda: {"max_restarts": 0}) if is_local() else None,
            **_WHOLE,
        )


def stream(source: Datasource, parts: int, pool: ActorPool, then: Callable[[pa.Table], pa.Table]) -> Iterator[pa.Table]:
    """Reads a source on the cluster and works on it as it comes, in any order.

    Args:
        source: to read; each table that one of its read tasks yields is passed on at once.
        parts: its read tasks.
        pool: applied to each table.
        then: applied to each of these, by a task of its own: what it makes comes back to the driver.

    Raises:
        ray.exceptions.RayError: a task failed.
    """
    dataset = _dataset(source, parts)
    dataset.context.target_max_block_size = 1
    yield from (
        _through(dataset, pool)
        .map_batches(then, **_WHOLE)
        .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    )


def _dataset(source: Datasource, parts: int) -> ray.data.Dataset:
    dataset = ray.data.read_datasource(source, override_num_blocks=parts)
    dataset.context.enable_progress_bars = False
    dataset.context.memory_usage_poll_interval_s = None  # a thread in each task, for estimates that nobody reads
    return dataset
