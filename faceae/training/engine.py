"""One epoch of training, and one exact evaluation. Uses torch and its collectives, not Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from faceae import metrics
from faceae.data.batch import Batch
from faceae.models.vae import VariationalAutoencoder
from faceae.training.collectives import all_reduce, world_size
from faceae.training.progress import EpochResult
from faceae.training.state import TrainState
from faceae.training.transfer import DeviceBatch, ResidentImages, to_device

CHECK_STEPS = {"cuda": 20, "cpu": 1}
"""Steps between checks of the loss and of `EpochControl.pause`: each check makes the host wait for the device."""

VALIDATION_PIXELS = {"cuda": 2**22, "cpu": 2**20}
"""Pixels in a validation batch: 256 or 64 images at 128x128. It needs no gradients, and little memory for its size."""


class EpochControl:
    """The engine's calls to a run during an epoch. This base class never pauses and schedules nothing."""

    def pause(self) -> int:
        """Returns a reason to leave the epoch, 0 to continue; the maximum over ranks wins.

        Asked on every rank every `CHECK_STEPS` steps.
        """
        return 0

    def on_step(self, images: int) -> None:
        """Called after each step with the number of images of the epoch seen so far by all ranks."""

    def progress(self, images: int) -> float:
        """Share of the run that is over, in [0, 1], after this many images of the epoch; the same on all ranks."""
        return 0.0

    def time_used(self) -> float:
        """Share of the run's time budget that is over, in [0, 1], on this rank; asked as often as `pause`."""
        return 0.0


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite, so training cannot continue."""


_START, _NO_CONTROL = EpochResult(), EpochControl()


def in_bf16(precision: str, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16: as the settings say, or with `auto` where the hardware supports it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[object]:
    """Returns the context in which the forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def train_one_epoch(
    network: nn.Module,
    batches: Iterable[Batch],
    state: TrainState,
    *,
    device: torch.device,
    bf16: bool = False,
    so_far: EpochResult = _START,
    control: EpochControl = _NO_CONTROL,
    resident: ResidentImages | None = None,
) -> EpochResult:
    """Trains on every batch once, or on those that are left of an epoch.

    Args:
        network: the state's network, wrapped in DDP when there are several ranks.
        batches: this rank's shares of the global batches; equally many on every rank.
        state: the train state, which is updated.
        device: where the network is.
        bf16: whether the forward pass runs in bfloat16.
        so_far: the result of the epoch before it was left; the returned one includes it.
        control: says when to pause and follows the steps. The learning rate schedule follows the steps or the time,
            whichever is further.
        resident: the images that stay on the device, if the batches are made for them.

    Raises:
        NonFiniteLossError: the loss is NaN or infinite; noticed within `CHECK_STEPS` steps.
    """
    network.train()
    ranks = world_size()
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    images, pause = so_far.images, 0
    timed = _Timed(batches)
    start = time.monotonic()
    time_used = float(all_reduce(torch.tensor(control.time_used(), device=device), dist.ReduceOp.MAX))
    for step, batch in enumerate(timed):
        data = to_device(batch, device, resident)
        progress = max(control.progress(images), time_used)
        # DDP averages over ranks, but the shares of a global batch must add up.
        weight = ranks * len(data.original) / batch.global_rows
        state.reseed()
        with autocast(device, bf16):
            made = network(data.given, data.mask)
        output, loss = state.objective(made, data, progress)
        if opponent := state.opponent(progress):
            windows = opponent.windows(output, data.original, data.mask)
            state.step(weight * (loss + opponent.loss(windows, bf16=bf16)), progress)
            opponent.step(windows, weight, bf16=bf16)
        else:
            state.step(weight * loss, progress)
        loss_sum += loss.detach() * len(data.original)
        images += batch.global_rows
        control.on_step(images)
        if step % CHECK_STEPS[device.type] == 0:
            pause, time_used = _check(loss_sum, control.pause(), control.time_used())
            if pause:
                break
    all_reduce(loss_sum)
    mean = (loss_sum.item() + so_far.loss * so_far.images) / max(images, 1)
    if not np.isfinite(mean):
        raise NonFiniteLossError(f"the training loss is {mean}")
    seconds = time.monotonic() - start + so_far.seconds
    waited = timed.waited + so_far.seconds * so_far.data_wait_fraction
    return EpochResult(images, seconds, waited / seconds, mean, pause)


def _check(loss_sum: Tensor, pause: int, time_used: float) -> tuple[int, float]:
    """Returns the maximum of both over all ranks; the same reduction checks the loss."""
    values = torch.tensor([pause, time_used], dtype=torch.float64, device=loss_sum.device)
    reduced = all_reduce(torch.cat([~loss_sum.isfinite()[None], values]), dist.ReduceOp.MAX)
    diverged, pause, time_used = reduced.tolist()
    if diverged:
        raise NonFiniteLossError("the training loss is no longer finite")
    return int(pause), time_used


def validation_batch(image_size: int, device: torch.device) -> int:
    """Returns the number of images in a validation batch."""
    return max(1, VALIDATION_PIXELS[device.type] // image_size**2)


def evaluate(network: nn.Module, batches: Iterable[Batch], *, device: torch.device, bf16: bool = False) -> metrics.Sums:
    """Returns the metrics over all batches of all ranks; each image counts once, however unevenly they are shared."""
    network.eval()
    more = (metrics.DIVERGENCE,) if isinstance(network, VariationalAutoencoder) else ()
    sums = metrics.Sums(device, metrics.NAMES + more)
    for batch in batches:
        sums.add(measure(network, batch, device=device, bf16=bf16))
    all_reduce(sums.totals)
    return sums


@torch.inference_mode()
def restore(
    network: nn.Module, batch: Batch, *, device: torch.device, bf16: bool = False
) -> tuple[Tensor, DeviceBatch]:
    """Returns what a network makes of a batch, (N, 3, S, S), and the batch; it must be in evaluation mode."""
    data = to_device(batch, device)
    with autocast(device, bf16):
        return network(data.given, data.mask), data


@torch.inference_mode()
def measure(network: nn.Module, batch: Batch, *, device: torch.device, bf16: bool = False) -> dict[str, Tensor]:
    """Returns the metrics of each image, see `metrics.per_example`, and for a VAE `metrics.DIVERGENCE`, too.

    The network must be in evaluation mode.
    """
    output, data = restore(network, batch, device=device, bf16=bf16)
    values = metrics.per_example(output, data.original, data.mask)
    if isinstance(network, VariationalAutoencoder):
        with autocast(device, bf16):
            values[metrics.DIVERGENCE] = network.divergence(data.given)
    return values


class _Timed:
    """An iterator that adds up the seconds spent waiting for the next item."""

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
