"""Which errors of a training worker are retried with other workers, and which end the run with their reason."""

import os
import re
import signal

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ray.exceptions import ActorDiedError, ObjectLostError, OutOfMemoryError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from seaweed import free_ports
from torch import nn

from faceae.cluster import failures
from faceae.errors import InputError


def caught(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("no error")


def raise_from(cause, error):
    def function():
        raise error from cause

    return caught(function)


def bare(error):
    """What `storage.explain` leaves of an error: a cause that is not shown, but known."""

    def function():
        try:
            raise error
        except OSError:
            raise InputError("the server cannot be reached") from None

    return caught(function)


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        ObjectLostError("ff" * 28, None, ""),
        dist.DistBackendError("NCCL communicator was aborted on rank 1"),
        dist.DistNetworkError("the client socket has timed out"),
        torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
        ConnectionResetError(104, "Connection reset by peer"),
        OSError("AWS Error NETWORK_CONNECTION during GetObject operation"),
        raise_from(ActorDiedError(), ValueError("no batch")),
        bare(OSError("AWS Error NETWORK_CONNECTION")),
    ],
    ids=str,
)
def test_errors_after_which_other_workers_may_succeed(error):
    assert failures.is_loss(error)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (caught(lambda: torch.empty(2**60)), r"^out of memory \(RuntimeError: .*\); use a smaller network"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "^out of memory "),
        (torch.AcceleratorError("CUDA error: out of memory"), "^out of memory "),
        (MemoryError(), r"^out of memory \(MemoryError"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "device-side assert"),
        (
            caught(lambda: nn.BatchNorm2d(3)(torch.ones(1, 3, 1, 1))),
            "^ValueError: Expected more than 1 value per channel when training",
        ),
        (caught(lambda: nn.Linear(2, 3)(torch.ones(4))), "^RuntimeError: .*shapes"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (KeyError("images"), "KeyError"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_that_would_only_happen_again_say_why(error, reason):
    assert not failures.is_loss(error)
    assert re.search(reason, failures.reason(error))


def lose_the_other(rank, port, found):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    dist.all_reduce(torch.ones(3))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    calls = (lambda: dist.all_reduce(torch.ones(9)), lambda: dist.all_gather_object([None, None], 3))
    found.put([failures.is_loss(caught(call)) for call in calls])


def test_the_end_of_another_rank_is_a_loss():
    context = mp.get_context("spawn")
    found, (port,) = context.Queue(), free_ports(1)
    ranks = [context.Process(target=lose_the_other, args=(rank, port, found)) for rank in range(2)]
    for each in ranks:
        each.start()
    assert found.get(timeout=60) == [True, True]
    for each in ranks:
        each.join()


def group_error(*errors):
    """As Ray Train raises it for the errors of these ranks."""
    return WorkerGroupError("training failed", dict(enumerate(errors)))


def died(error):
    return WorkerHealthCheckFailedError("A worker health check failed.", error)


RAYS = """1 worker(s) were killed due to the node running low on memory. \
Memory on the node (IP: 192.0.2.2, ID: 47aa) was 1.51GB used / 23.54GB limit (0.064004)
OOM kill reason: Memory usage 1584914432B exceeded threshold of 505521184B (2.0% of 25276059648B limit)
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/..."""


@pytest.mark.parametrize(
    "error",
    [
        group_error(RuntimeError("[../gloo/tcp/pair.cc] Read error"), died(OutOfMemoryError(RAYS))),
        raise_from(OutOfMemoryError(RAYS), ValueError("At least one of the worker actors failed to initialize.")),
    ],
    ids=["in training", "at the start"],
)
def test_a_worker_that_ray_killed_for_its_memory_is_said_to_be(error):
    said = failures.cause(error, failures.kernel_kills())
    assert said.startswith("the memory of 192.0.2.2 ran out (1.51GB of 23.54GB used), and Ray killed a worker; use a")


def test_a_worker_that_the_kernel_killed_for_its_memory_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "VMSTAT", tmp_path / "vmstat")
    assert failures.kernel_kills() == 0
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 3\nother 5\n")
    before = failures.kernel_kills()
    error = group_error(died(ActorDiedError()))
    assert "actor died" in failures.cause(error, before)
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 4\n")
    assert failures.cause(error, before).startswith(
        "the memory ran out, and the kernel killed a process; use a smaller"
    )
