"""What each Ray Train worker runs: it takes one run after another from the coordinator and trains it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import psutil
import ray
import ray.train
import torch
from ray.train.torch import get_device

from faceae import storage
from faceae.cluster import failures
from faceae.cluster.protocol import RunSpec
from faceae.cluster.run import Run, Worker
from faceae.data.loader import Ranks
from faceae.data.mapped import node_cache
from faceae.errors import RunFailedError
from faceae.training import engine
from faceae.training.collectives import RowExchange, world_size
from faceae.training.memory import keep_freed_memory


def train_worker(config: dict[str, Any]) -> bool:
    """Trains the coordinator's runs, one after another: the training function of each rank of a worker group.

    In this way the trials of a grid share processes, see `faceae.cluster.worker_groups`.

    Args:
        config: `coordinator`, `attempt` (this start of the group) and `workers_per_node` (training workers of all
            runs).

    Returns:
        True if there are no more runs; False if other workers take over this one.

    Raises:
        RunFailedError: the current run cannot be trained by any workers.
        Exception: something was lost, see `faceae.cluster.failures`; other workers may succeed.
    """
    coordinator, attempt = config["coordinator"], config["attempt"]
    context = ray.train.get_context()
    device = get_device()
    sharing = max(config["workers_per_node"], context.get_local_world_size())
    if device.type == "cpu":  # Ray sets one thread per worker, however many cores there are
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // sharing))
        keep_freed_memory()
    worker = Worker(coordinator, attempt, device, group_ranks(context.get_world_rank()), node_cache(sharing))
    number = None
    while taken := ray.get(coordinator.next_run.remote(attempt, number)):
        number, (reference,) = taken
        spec: RunSpec = ray.get(reference)
        failure = None
        try:
            with _outages_noted(coordinator, spec.uri):
                if not Run(spec, worker).train():
                    return False
        except engine.NonFiniteLossError as error:
            # All ranks raise this together. It is not retried, since it would only happen again.
            failure = f"{error}; try a lower --optim.lr"
        except RunFailedError as error:
            failure = str(error)
        except Exception as error:
            if failures.is_loss(error):
                raise
            # The other ranks still wait for this one: the group ends, and others train the next run.
            raise RunFailedError(failures.reason(error)) from error
        if worker.ranks.rank == 0:
            ray.get(coordinator.finish.remote(attempt, failure))
        number += 1
    return True


def group_ranks(rank: int) -> Ranks:
    """Returns the ranks of this group, and a way to exchange rows if they are on several nodes."""
    if world_size() == 1:
        return Ranks()
    if interface := _interface(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    exchange = RowExchange()
    nodes = tuple(exchange.gather(ray.get_runtime_context().get_node_id()))
    return Ranks(rank, nodes, exchange if len(set(nodes)) > 1 else None)


def _interface(address: str) -> str | None:
    """Returns the network interface with an address. Gloo would look up the machine's name: on Debian, 127.0.1.1."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return None


@contextlib.contextmanager
def _outages_noted(coordinator: Any, run: str) -> Iterator[None]:  # noqa: ANN401
    """Passes the storage's warnings (it cannot be reached and will be tried again) to the coordinator."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            coordinator.note.remote(run, record.getMessage())

    handler = Handler()
    storage.logger.addHandler(handler)
    try:
        yield
    finally:
        storage.logger.removeHandler(handler)
