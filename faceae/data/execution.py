"""Runs Ray Data: over a source, with one read task for each part, and over numbers, in a task for each CPU."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import ray
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.util.annotations import RayDeprecationWarning

from faceae import ray_compat
from faceae.ray_compat import is_local

ray_compat.speed_up_short_executions()

_WHOLE: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}

NICENESS = 10
"""Niceness of the processes that read images and draw masks: on a machine with few cores, training and the processes
that must start before it go first."""


def lower_priority() -> None:
    """Raises the niceness of this process to `NICENESS`; our tasks call it, so that training does not wait for them."""
    os.nice(max(0, NICENESS - os.nice(0)))


class Replicas(NamedTuple):
    """Processes that each hold a copy of a model.

    Attributes:
        size: number of processes.
        cpus: CPUs of each process.
        gpu: GPUs of each process, 1.0 or 0.0.
    """

    size: int
    cpus: float
    gpu: float

    @property
    def device(self) -> str:
        """The device of each process, "cuda" or "cpu". Ray shows GPUs also to processes that have asked for none."""
        return "cuda" if self.gpu else "cpu"

    def at_most(self, parts: int) -> Replicas:
        """Returns at least one replica, and no more than there are parts to work on."""
        return self._replace(size=max(1, min(self.size, parts)))


@dataclass(frozen=True)
class ActorPool:
    """Processes that set themselves up once and then take block after block.

    Attributes:
        make: class whose instances are called with a block and return a block.
        arguments: arguments of its constructor.
        replicas: the number of processes, and the resources of each.
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
    """Reads a source on the cluster, in the source's order; the blocks stay in the object store.

    Args:
        source: the source.
        parts: number of its read tasks, all of which may run at the same time; each makes one block of what it yields.
        finish: function applied to each block, by the task that read it.
        pool: processes applied to each block after that.

    Yields:
        The reference and the number of rows of each block, as soon as it is ready.

    Raises:
        ray.exceptions.RayError: a task failed.
    """
    dataset = ray.data.read_datasource(source, override_num_blocks=parts)
    _set_up(dataset)
    if finish:
        dataset = dataset.map_batches(finish, **_WHOLE)
    if pool:
        dataset = _map_with_pool(dataset, pool)
    yield from ((ref, metadata.num_rows) for ref, metadata in _blocks(dataset))


def for_numbers(count: int, function: Callable[[pa.Table], pa.Table]) -> tuple[list[ray.ObjectRef], int]:
    """Applies a function to the numbers below `count` on the cluster, in one task for each CPU, spread over the nodes.

    Args:
        count: how many numbers there are.
        function: given a table with some consecutive numbers in the column `id`, returns one with a row for each. Its
            name is part of the processes' title.

    Returns:
        For each number, the table that has its row; and the bytes of all tables. The rows of a table are in order.

    Raises:
        ray.exceptions.RayError: a task failed.
    """
    tasks = min(count, int(ray.cluster_resources().get("CPU", 1)))
    dataset = ray.data.range(count, override_num_blocks=tasks)
    _set_up(dataset)
    tables = list(_blocks(dataset.map_batches(function, **_WHOLE)))
    refs = [ref for ref, metadata in tables for _ in range(metadata.num_rows)]
    return refs, sum(metadata.size_bytes for _, metadata in tables)


def _blocks(dataset: ray.data.Dataset) -> Iterator[tuple[ray.ObjectRef, BlockMetadata]]:
    for bundle in dataset.iter_internal_ref_bundles():
        yield from ((block.ref, block.metadata) for block in bundle.blocks)


@contextlib.contextmanager
def _without_named_parameter() -> Iterator[None]:
    """For options of tasks and actors that Ray 2.60 has no other way to set, and yet warns about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)
        yield


def _map_with_pool(dataset: ray.data.Dataset, pool: ActorPool) -> ray.data.Dataset:
    with _without_named_parameter():
        return dataset.map_batches(
            pool.make,
            fn_constructor_args=pool.arguments,
            compute=ray.data.ActorPoolStrategy(size=pool.replicas.size),
            num_cpus=pool.replicas.cpus,
            num_gpus=pool.replicas.gpu,
            # Ray restarts the processes of a lost node on another, with a warning; one machine has no other node.
            ray_remote_args_fn=(lambda: {"max_restarts": 0}) if is_local() else None,
            **_WHOLE,
        )


def stream(
    source: Datasource,
    parts: int,
    pool: ActorPool,
    then: Callable[[pa.Table], pa.Table] | None = None,
    finish: Callable[[pa.Table], pa.Table] | None = None,
    block_bytes: int = 1,
) -> Iterator[pa.Table]:
    """Reads a source on the cluster and processes its tables as they arrive, in any order.

    Args:
        source: the source; each table that a read task yields is passed on at once.
        parts: number of its read tasks.
        pool: processes applied to each table.
        then: function applied to each table after that, by a task of its own.
        finish: function applied to each table before, by the task that read it.
        block_bytes: size at which tables are divided, at least into rows; smaller ones are passed on whole.

    Yields:
        The tables that come out of this, on the driver.

    Raises:
        ray.exceptions.RayError: a task failed.
    """
    dataset = ray.data.read_datasource(source, override_num_blocks=parts)
    _set_up(dataset)
    dataset.context.target_max_block_size = block_bytes
    dataset.context.execution_options.preserve_order = False
    if finish:
        dataset = dataset.map_batches(finish, **_WHOLE)
    dataset = _map_with_pool(dataset, pool)
    if then:
        dataset = dataset.map_batches(then, **_WHOLE)
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _set_up(dataset: ray.data.Dataset) -> None:
    context = dataset.context
    context.enable_progress_bars = False
    context.memory_usage_poll_interval_s = None  # saves a thread per task, whose estimates nobody reads
    context.target_max_block_size = None  # never splits a block
    context.execution_options.preserve_order = True  # the order of training must not depend on timing
