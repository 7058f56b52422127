"""Trains faceae/models/local.safetensors: `make pretrain`, or `python -m pretrain --help`."""

from __future__ import annotations

import copy
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from faceae.console import Meter, out
from faceae.models.local import WEIGHTS, LocalUnet
from faceae.models.membrane import extend
from faceae.training.engine import in_bf16
from pretrain.holes import batch
from pretrain.leaves import leaves

_BATCH = 64
_LR = 0.002
_WARM_UP = 0.02  # of the steps
_EMA = 0.05  # of the steps so far that the averaged weights remember
_SAID = 200  # steps between two lines


@dataclass
class Pretrain:
    """Trains the network for scratches and small holes on drawn pictures."""

    steps: int = 2000
    """Steps of 64 windows of 64x64 pixels."""
    pictures: int = 120
    """Drawn pictures of 512x512 pixels."""
    photographs: Path | None = None
    """A folder of square photographs of one size to train on instead, to compare."""
    seed: int = 0
    to: Path = Path(__file__).parents[1] / "faceae" / "models" / WEIGHTS
    """The file to write."""


def main(settings: Pretrain) -> None:
    """Draws the pictures, trains, and writes the weights as float16."""
    pictures = _read(settings.photographs) if settings.photographs else _draw(settings.pictures)
    network = _train(pictures, settings.steps, settings.seed)
    saved = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    settings.to.write_bytes(safetensors.torch.save(saved))
    out.print(f"weights   {settings.to}")


def _train(pictures: NDArray[np.uint8], steps: int, seed: int) -> LocalUnet:
    """Returns a trained network, with the average of its weights over the last steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = LocalUnet()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network)
    adam = torch.optim.Adam(network.parameters(), _LR)
    bf16, sums = in_bf16("auto", torch.device("cpu")), torch.zeros(2)
    with Meter("training", _BATCH * steps) as meter:
        for step in range(1, steps + 1):
            share = step / steps
            adam.param_groups[0]["lr"] = _LR * min(1, share / _WARM_UP) * (1 + math.cos(math.pi * share)) / 2
            given, whole, known = batch(rng, pictures, _BATCH)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                filled = network(given.contiguous(memory_format=torch.channels_last), known)
            errors = _errors(filled, whole, known)
            # The root, because a box has a hundred times the squared error of a scratch, and matters as much.
            loss = (errors + 1e-5).sqrt().mean()
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step()
            with torch.no_grad():
                weight = 1 - (1 - 1 / step) ** (1 / _EMA)
                torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)
                sums += torch.stack([errors.sum(), _errors(extend(given, known), whole, known).sum()])
            meter.add(_BATCH)
            if step % _SAID == 0:
                out.print(f"step {step}: {sums[0] / sums[1]:.3f} of the error of a smooth continuation")
                sums.zero_()
    return average


def _errors(filled: Tensor, whole: Tensor, known: Tensor) -> Tensor:
    """Returns the mean squared error of each image where it is unknown, (N,)."""
    hole = 1 - known
    return ((filled - whole).square() * hole).sum((1, 2, 3)) / (3 * hole.sum((1, 2, 3)))


def _draw(count: int) -> NDArray[np.uint8]:
    with ProcessPoolExecutor() as pool, Meter("drawing", count) as meter:
        pictures = []
        for picture in pool.map(leaves, range(count), chunksize=4):
            pictures.append(picture)
            meter.add(1)
    return np.stack(pictures)


def _read(folder: Path) -> NDArray[np.uint8]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])


if __name__ == "__main__":
    main(tyro.cli(Pretrain))
