"""Trains faceae/models/local.safetensors: `make pretrain`, or `python -m pretrain --help`."""

from __future__ import annotations

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

from faceae.config import Optim, Settings
from faceae.console import Meter, out
from faceae.models.local import WEIGHTS, LocalUnet
from faceae.models.membrane import extend
from faceae.training.engine import autocast, in_bf16
from faceae.training.state import TrainState
from pretrain.holes import batch
from pretrain.leaves import leaves

_BATCH = 64
_OPTIM = Optim(name="muon", lr=0.005, schedule="cosine", warmup=0.02, average=0.05)
_SAID = 200  # steps between two lines


@dataclass
class Pretrain:
    """Trains the network for scratches and small holes on drawn pictures."""

    steps: int = 6000
    """Steps of 64 windows of 64x64 pixels."""
    pictures: int = 160
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


def _train(pictures: NDArray[np.uint8], steps: int, seed: int) -> nn.Module:
    """Returns a trained network, with the average of its weights over the last steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    state = TrainState(LocalUnet().to(memory_format=torch.channels_last), Settings(optim=_OPTIM))  # type: ignore[call-overload]
    device = torch.device("cpu")
    bf16, sums = in_bf16("auto", device), torch.zeros(2)
    with Meter("training", _BATCH * steps) as meter:
        for step in range(1, steps + 1):
            given, whole, known = batch(rng, pictures, _BATCH)
            with autocast(device, bf16):
                filled = state.network(given.contiguous(memory_format=torch.channels_last), known)
            errors = _errors(filled, whole, known)
            # The root, because a box has a hundred times the squared error of a scratch, and matters as much.
            state.step((errors + 1e-6).sqrt().mean(), step / steps)
            sums += torch.stack([errors.detach().sum(), _errors(extend(given, known), whole, known).sum()])
            meter.add(_BATCH)
            if step % _SAID == 0:
                out.print(f"step {step}: {sums[0] / sums[1]:.3f} of the error of a smooth continuation")
                sums.zero_()
    return state.best_network


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
