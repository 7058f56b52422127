"""What `bench.gpu` measures on: the presets `article` and `restore`, with drawn portraits in memory."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from faceae import models
from faceae.config import Data, Mask, Settings
from faceae.config.presets import PRESETS
from faceae.corruption import masks
from faceae.data.batch import Batch
from faceae.data.synthetic import portrait
from faceae.training import engine
from faceae.training.state import TrainState
from faceae.training.transfer import DeviceBatch

NAMES = ("article", "restore")
CPU = torch.device("cpu")

Step = Callable[[], Tensor]
"""Takes one training step and returns its loss, a scalar on the device."""


def settings(name: str, *, small: bool) -> Settings:
    """Returns the settings of a preset; small ones have 8 images of 32x32 in a batch and narrow layers."""
    preset = PRESETS[name]
    # Without a warm-up: a run of a few steps would end while its learning rate is still zero.
    preset = dataclasses.replace(preset, optim=dataclasses.replace(preset.optim, warmup=0.0))
    if not small:
        return preset
    return dataclasses.replace(
        preset,
        data=Data(image_size=32),
        mask=Mask(size=8),
        model=dataclasses.replace(preset.model, latent_dim=8, window=32, width=8),
        train=dataclasses.replace(preset.train, batch_size=8),
    )


def batch(settings: Settings, count: int | None = None, first: int = 0) -> Batch:
    """Draws a batch of portraits and their masks, as the loader delivers them.

    Args:
        settings: those of the run.
        count: number of images; by default the batch size of the settings.
        first: number of the first portrait.
    """
    size, count = settings.data.image_size, count or settings.train.batch_size
    pixels = np.stack([portrait(number, size) for number in range(first, first + count)])
    ids = [str(number) for number in range(first, first + count)]
    drawn = masks.draw(ids, settings.mask, seed=0, epoch=1, image_size=size)
    return Batch(pixels, masks.pack(drawn), count)


def build(settings: Settings, device: torch.device) -> nn.Module:
    """Builds a network with the same weights every time, as a training worker does."""
    torch.manual_seed(0)
    network: nn.Module = models.build(settings).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def stepper(network: nn.Module, state: TrainState, data: DeviceBatch, *, bf16: bool) -> Step:
    """Returns a function that takes one training step on a batch on the device, as the engine does, and its loss."""

    def step() -> Tensor:
        with engine.autocast(data.given.device, bf16):
            output = network(data.given, data.mask)
        loss = state.loss(output, data.original, data.mask)
        state.step(loss, 0.0)
        return loss.detach()

    return step


def wait(device: torch.device) -> None:
    """Waits until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Returns the milliseconds of work that is done over and over: the median of five stretches, after a warm-up."""
    work()
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    count = max(1, math.ceil(seconds / 6 / max(time.perf_counter() - start, 1e-6)))
    stretches = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(count):
            work()
        wait(device)
        stretches.append((time.perf_counter() - start) / count * 1e3)
    return statistics.median(stretches[1:])
