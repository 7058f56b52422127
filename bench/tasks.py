"""How well a model does its task beside what needs no network, on images that it was not trained on.

    pip install --constraint constraints.txt --requirement bench/tasks.txt
    python -m bench.tasks out/denoise/model --source lfw128 --sigma 25

Takes the images of a folder that were kept for validation, or all with --all, at the model's size. PSNR and SSIM are
means over the images. For --task denoise it adds BM3D, if --sigma is one number, which it is told; its licence is for
non-commercial use. For colorize it adds the training images' mean colour at each place and luminance, and shows the
PSNR of the two colour channels (Cb and Cr) and the colourfulness (Hasler and Suesstrunk, 2003) as a share of the
originals'.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from bench.settings import pillow
from faceae import metrics, models, tasks
from faceae.config import Data, Noise, Settings
from faceae.console import Meter, out
from faceae.data.batch import Batch
from faceae.data.sources import Entry
from faceae.data.split import Split
from faceae.evaluation import baselines, pca
from faceae.models.frame import coloured
from faceae.tasks.colorize import luminance
from faceae.training.transfer import DeviceBatch, to_device

BATCH, LEVELS = 64, 32


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a saved model, such as out/denoise/model")
    parser.add_argument("--source", required=True, help="a folder of images")
    parser.add_argument("--all", action="store_true", help="all images of the folder, not only those for validation")
    parser.add_argument("--limit", type=int, help="only so many, in an order that depends on their ids")
    parser.add_argument("--sigma", help="for denoise: another standard deviation than in training")
    parser.add_argument("--task", help="of a model of several tasks: which one")
    arguments = parser.parse_args()
    model = models.load(arguments.model)
    if arguments.task:
        model = model.for_task(arguments.task)
    settings: Settings = model.settings
    if arguments.sigma:
        settings = dataclasses.replace(settings, noise=Noise(arguments.sigma))
    split = Split(Data(source=(arguments.source,)))
    entries = ([*split.train, *split.val] if arguments.all else split.val)[: arguments.limit]
    data = damaged(settings, entries)
    made = {"this model": run(model, data)} | references(arguments.model, settings, data)
    if settings.task_name == "colorize":
        trained = read(Split(settings.data).train, settings.data.image_size)
        made["mean colour"] = mean_colour(trained, data.given)
    out.print(compared(made, data, colours=settings.task_name == "colorize", count=len(entries)))


def read(entries: Sequence[Entry], size: int) -> NDArray[np.uint8]:
    """Returns images, (N, S, S, 3)."""
    return np.stack([pillow(Path(entry.uri).read_bytes(), size) for entry in entries])


def damaged(settings: Settings, entries: Sequence[Entry]) -> DeviceBatch:
    """Returns images as the task gives them in validation."""
    task, ids = tasks.create(settings), [entry.image_id for entry in entries]
    pixels = read(entries, settings.data.image_size)
    batch = Batch(pixels, task.draw_validation(ids), len(ids), damage=task.damage)
    return to_device(batch, torch.device("cpu"))


@torch.inference_mode()
def run(model: models.Restorer, data: DeviceBatch) -> Tensor:
    """Returns what the model makes of the images."""
    parts = zip(data.given.split(BATCH), data.mask.split(BATCH), strict=True)
    return torch.cat([model(given, mask) for given, mask in parts])


def references(uri: str, settings: Settings, data: DeviceBatch) -> dict[str, Tensor]:
    """Returns what the baselines make of them, and BM3D if all have the same noise."""
    task, given = tasks.create(settings), as_bytes(data.given)
    everywhere = np.ones(given.shape[1:3], np.bool_)
    fills: dict[str, Any] = dict(baselines.available(pca.read(uri), task))
    if isinstance(task, tasks.Denoise) and len(set(task.noise.sigmas)) == 1:
        fills["BM3D"] = lambda image, mask: bm3d(image, task.noise.sigmas[0])
    made = {}
    for name, fill in fills.items():
        with Meter(name, len(given)) as meter:
            filled = []
            for image in given:
                filled.append(fill(image, everywhere))
                meter.add(1)
        made[name] = as_floats(np.stack(filled))
    return made


def bm3d(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Denoises with BM3D for colours (Dabov et al., 2007; Makinen et al., 2020)."""
    import bm3d as package

    return (255 * package.bm3d_rgb(image / 255, sigma / 255)).round().clip(0, 255).astype(np.uint8)


def mean_colour(trained: NDArray[np.uint8], grey: Tensor) -> Tensor:
    """Colours images, (N, 3, S, S), with the mean colour that trained images have at each place and luminance."""
    side = trained.shape[1]
    sums, counts = torch.zeros(LEVELS, 3, side, side), torch.zeros(LEVELS, 1, side, side)
    for start in range(0, len(trained), BATCH):
        images = as_floats(trained[start : start + BATCH])
        light = luminance(images)
        level = (light * LEVELS).long().clamp_max(LEVELS - 1)
        for number in range(LEVELS):
            here = (level == number).float()
            sums[number] += ((images - light) * here).sum(0)
            counts[number] += here.sum(0)
    place = sums.sum(0, keepdim=True) / counts.sum(0, keepdim=True)
    table = torch.where(counts > 0, sums / counts.clamp_min(1), place)
    level = (grey[:, :1] * LEVELS).long().clamp_max(LEVELS - 1)
    return coloured(grey, table.gather(0, level.expand(-1, 3, -1, -1)))


def compared(made: dict[str, Tensor], data: DeviceBatch, *, colours: bool, count: int) -> Table:
    """Returns the table."""
    table = Table(f"{count} images", "MSE", "PSNR, dB", "SSIM", *(["Cb, Cr, dB", "colourfulness"] if colours else []))
    for name, images in made.items():
        values = metrics.per_example(images, data.original, data.mask)
        means = {key: value.mean().item() for key, value in values.items()}
        cells = [f"{means['mse']:.5f}", f"{means['psnr_db']:.2f}", f"{means['composite_ssim']:.4f}"]
        if colours:
            apart = (chroma(images) - chroma(data.original)).square().mean((1, 2, 3))
            share = colourfulness(images).mean() / colourfulness(data.original).mean()
            cells += [f"{metrics.psnr_db(apart).mean():.2f}", f"{share:.2f}"]
        table.add_row(name, *cells)
    return table


def chroma(images: Tensor) -> Tensor:
    """Returns Cb and Cr, (N, 2, S, S)."""
    light = luminance(images)
    return torch.cat([(images[:, 2:] - light) / 1.772, (images[:, :1] - light) / 1.402], 1)


def colourfulness(images: Tensor) -> Tensor:
    """Returns the colourfulness of images, (N,)."""
    red, green, blue = images.flatten(2).unbind(1)
    apart = torch.stack([red - green, (red + green) / 2 - blue])
    return apart.var(-1).sum(0).sqrt() + 0.3 * apart.mean(-1).square().sum(0).sqrt()


def as_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Returns images, (N, 3, S, S) in [0, 1], as (N, S, S, 3) uint8."""
    return images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def as_floats(images: NDArray[np.uint8]) -> Tensor:
    """Returns images, (N, S, S, 3) uint8, as (N, 3, S, S) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


if __name__ == "__main__":
    main()
