"""One epoch of training, and one exact evaluation. Knows torch and its collectives, not Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from faceae import metrics
from faceae.data.batch import Batch
from faceae.training.progress import EpochResult
from faceae.training.state import Learner

CHECK_STEPS = {"cuda": 20, "cpu": 1}
"""Steps between looks at the loss and at whether to stop: each look makes the host wait for the device."""


class Views(NamedTuple):
    """A batch on the device: `given` and `original` (n, 3, S, S), `mask` (n, 1, S, S), all float in [0, 1]."""

    given: Tensor
    original: Tensor
    mask: Tensor


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite: training cannot go on."""


_NOTHING = EpochResult()


def to_device(batch: Batch, device: torch.device) -> Views:
    """Uploads uint8 pixels and mask bits, and makes floats of them there: 52 kB an image instead of 393."""
    pixels = _upload(batch.pixels, device)
    original = pixels.permute(0, 3, 1, 2).float().div_(255)  # channels_last, without a copy
    bits = _upload(batch.mask, device)[..., None] >> torch.arange(8, device=device, dtype=torch.uint8)
    mask = bits.bitwise_and_(1).reshape(len(pixels), 1, *pixels.shape[1:3]).float()
    return Views(original * (1 - mask), original, mask)


def _upload(array: NDArray[np.uint8], device: torch.device) -> Tensor:
    # The array lies in shared memory that must not be written; pinned memory lets the copy overlap with compute.
    host = torch.empty(array.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    host.numpy()[...] = array
    return host.to(device, non_blocking=True)


def in_bf16(precision: str, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16: as the settings say, or with `auto` where the hardware has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[object]:
    """The arithmetic of the forward pass."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def train_one_epoch(
    network: nn.Module,
    batches: Iterable[Batch],
    learner: Learner,
    *,
    device: torch.device,
    bf16: bool = False,
    so_far: EpochResult = _NOTHING,
    pause: Callable[[], int] = lambda: 0,
    on_step: Callable[[int], None] = lambda images: None,
    done: Callable[[int], float] = lambda images: 0.0,
    spent: Callable[[], float] = lambda: 0.0,
) -> EpochResult:
    """Trains on every batch once, or on those that are left of an epoch.

    Args:
        network: the learner's, wrapped in DDP when there are several ranks.
        batches: this rank's shares; equally many on every rank.
        learner: what is trained.
        device: where the network is.
        bf16: whether the forward pass runs in bfloat16.
        so_far: what the epoch gave before it was left; the result is of all of it.
        pause: why to leave the epoch now, or 0, asked on every rank every `CHECK_STEPS` steps; the greatest answer of
            any rank holds for all.
        on_step: called after each step with the images of the epoch seen so far by all ranks.
        done: share of the run's steps that are over, from the images of the epoch; the same on every rank.
        spent: share of the run's time that is over, on this rank, asked like `pause`. The schedule follows the greater
            of the two.

    Raises:
        NonFiniteLossError: the loss is NaN or infinite, seen within `CHECK_STEPS` steps.
    """
    network.train()
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    images, why = so_far.images, 0
    timed = _Timed(batches)
    start = time.monotonic()
    gone = float(_all_reduce(torch.tensor(spent(), device=device), dist.ReduceOp.MAX))
    for step, batch in enumerate(timed):
        views = to_device(batch, device)
        with autocast(device, bf16):
            output = network(views.given, views.mask)
        share = learner.loss_of(output, views.original, views.mask) * (len(batch.pixels) / batch.global_rows)
        # DDP averages over ranks; the shares of a global batch must add up.
        learner.step(share * ranks, max(done(images), gone))
        loss_sum += share.detach() * batch.global_rows
        images += batch.global_rows
        on_step(images)
        if step % CHECK_STEPS[device.type] == 0:
            why, gone = _check(loss_sum, pause(), spent())
            if why:
                break
    _all_reduce(loss_sum)
    loss = (loss_sum.item() + so_far.loss * so_far.images) / max(images, 1)
    if not np.isfinite(loss):
        raise NonFiniteLossError(f"the training loss is {loss}")
    seconds = time.monotonic() - start + so_far.seconds
    waited = timed.waited + so_far.seconds * so_far.data_wait_fraction
    return EpochResult(images, seconds, waited / seconds, loss, why)


def _check(loss_sum: Tensor, why: int, spent: float) -> tuple[int, float]:
    """The greatest of any rank."""
    words = torch.tensor([why, spent], dtype=torch.float64, device=loss_sum.device)
    diverged, why, spent = _all_reduce(torch.cat([~loss_sum.isfinite()[None], words]), dist.ReduceOp.MAX).tolist()
    if diverged:
        raise NonFiniteLossError("the training loss is no longer finite")
    return int(why), spent


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank: a decision that all ranks must take together."""
    return bool(_all_reduce(torch.tensor(float(flag), device=device), dist.ReduceOp.MAX))


def average_buffers(network: nn.Module) -> None:
    """Gives all ranks the mean of their batch-norm statistics, so that they evaluate the same network."""
    for buffer in network.buffers():
        if buffer.is_floating_point():
            _all_reduce(buffer)
            buffer /= dist.get_world_size() if dist.is_initialized() else 1


def evaluate(network: nn.Module, batches: Iterable[Batch], *, device: torch.device, bf16: bool = False) -> metrics.Sums:
    """Metrics over all batches of all ranks, each image counted once, however unevenly they are shared."""
    network.eval()
    sums = metrics.Sums(device)
    for batch in batches:
        sums.add(measure(network, batch, device=device, bf16=bf16))
    _all_reduce(sums.totals)
    return sums


@torch.inference_mode()
def measure(network: nn.Module, batch: Batch, *, device: torch.device, bf16: bool = False) -> dict[str, Tensor]:
    """The metrics of each image of a batch, see `metrics.per_example`; the network is in evaluation mode."""
    views = to_device(batch, device)
    with autocast(device, bf16):
        output = network(views.given, views.mask)
    return metrics.per_example(output, views.original, views.mask)


def _all_reduce(tensor: Tensor, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(tensor, op)
    return tensor


class _Timed:
    """Iterates, and adds up the seconds spent waiting for the next item."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches = batches
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self.batches)
        while True:
            start = time.monotonic()
            batch = next(iterator, None)
            self.waited += time.monotonic() - start
            if batch is None:
                return
            yield batch
