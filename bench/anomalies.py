"""How well a model finds what does not belong on a face, on images that it was not trained on.

    python -m bench.anomalies out/repair/model out/plain/model --source lfw128 --picture found.png

Takes LFW's images that were kept for validation, each once as it is and once with an anomaly, of the kinds in turn:
another person's eye or mouth in place of one's own, the mouth upside down, a round occluder of one colour, and a patch
that is blurred (a standard deviation of 3 pixels) or noisy (25 levels of 255). The area under the ROC curve says how
often what is wrong has a higher score than what is right: of images, and of pixels over all images, as in MVTec AD
(Bergmann et al., 2019).

Beside the models: the residual of a PCA, with as many numbers as `faceae evaluate` compares with. With --inpaint MODEL
also what a network of --task inpaint predicts where it cannot see: a hole of 28 pixels slides over the image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from bench.tasks import as_bytes, as_floats, read
from faceae import models
from faceae.config import Data
from faceae.console import Meter, out
from faceae.data.split import Split
from faceae.evaluation import anomaly, pca
from faceae.models.repair import RepairUnet

SIZE, BATCH, HOLE, STRIDE, SMOOTH = 128, 64, 28, 14, 2

EYES, MOUTH = ((44, 36, 16, 24), (44, 65, 16, 24)), (84, 43, 20, 38)
"""Where the eyes and the mouth are on LFW's images at 128 pixels: top, left, height, width."""

LEAST, MOST = 18, 36
"""Sides of occluders and of blurred and noisy patches in pixels."""

Pixels = NDArray[np.uint8]
Anomaly = Callable[[Pixels, Pixels, np.random.Generator], NDArray[np.bool_]]
"""Puts an anomaly into an image, (S, S, 3), perhaps from another one; returns where it is, (S, S) bool."""


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", help="saved models, of --task repair or of autoencoders")
    parser.add_argument("--inpaint", help="a saved model of --task inpaint, whose hole slides over the images")
    parser.add_argument("--source", required=True, help="a folder of LFW's images, split as in training")
    parser.add_argument("--picture", type=Path, help="where to draw an image of each kind and what the models find")
    arguments = parser.parse_args()
    normal = read(Split(Data(source=(arguments.source,))).val, SIZE)
    damaged, where = anomalies(normal)
    images = as_floats(np.concatenate([normal, damaged]))
    wrong = torch.from_numpy(np.concatenate([np.zeros_like(where), where]))
    maps = {uri: found(models.load(uri), images) for uri in arguments.model}
    if linear := pca.read(arguments.model[0]):
        maps["PCA"] = residual(images, rebuilt(linear, images))
    if arguments.inpaint:
        maps[f"{arguments.inpaint}, sliding"] = residual(images, expected(models.load(arguments.inpaint), images))
    out.print(compared(maps, wrong))
    if arguments.picture:
        draw(arguments.picture, damaged, where, {name: each[len(normal) :] for name, each in maps.items()})


def anomalies(images: Pixels) -> tuple[Pixels, NDArray[np.bool_]]:
    """Returns a copy of images with an anomaly in each, of the `KINDS` in turn, and where it is, (N, S, S) bool."""
    rng, damaged = np.random.default_rng(0), images.copy()
    others = np.roll(images, 37, 0)
    put = list(KINDS.values())
    where = [put[number % len(put)](damaged[number], others[number], rng) for number in range(len(images))]
    return damaged, np.stack(where)


def _part(top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
    return slice(top, top + height), slice(left, left + width)


def _patch(rng: np.random.Generator) -> tuple[slice, slice]:
    height, width = rng.integers(LEAST, MOST + 1, 2)
    return _part(rng.integers(SIZE - height + 1), rng.integers(SIZE - width + 1), height, width)


def _whole(part: tuple[slice, slice]) -> NDArray[np.bool_]:
    where = np.zeros((SIZE, SIZE), np.bool_)
    where[part] = True
    return where


def _foreign_eye(image: Pixels, other: Pixels, rng: np.random.Generator) -> NDArray[np.bool_]:
    part = _part(*EYES[rng.integers(2)])
    image[part] = other[part]
    return _whole(part)


def _foreign_mouth(image: Pixels, other: Pixels, rng: np.random.Generator) -> NDArray[np.bool_]:
    part = _part(*MOUTH)
    image[part] = other[part]
    return _whole(part)


def _mouth_upside_down(image: Pixels, other: Pixels, rng: np.random.Generator) -> NDArray[np.bool_]:
    part = _part(*MOUTH)
    image[part] = image[part][::-1].copy()
    return _whole(part)


def _occluder(image: Pixels, other: Pixels, rng: np.random.Generator) -> NDArray[np.bool_]:
    rows, columns = _patch(rng)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    where = np.zeros((SIZE, SIZE), np.uint8)
    middle = columns.start + width // 2, rows.start + height // 2
    cv2.ellipse(where, middle, (width // 2 - 1, height // 2 - 1), 0, 0, 360, 1, cv2.FILLED)
    image[where > 0] = rng.integers(0, 256, 3)
    return where > 0


def _blur(image: Pixels, other: Pixels, rng: np.random.Generator) -> NDArray[np.bool_]:
    part = _patch(rng)
    image[part] = cv2.GaussianBlur(image, (0, 0), 3)[part]
    return _whole(part)


def _noise(image: Pixels, other: Pixels, rng: np.random.Generator) -> NDArray[np.bool_]:
    part = _patch(rng)
    image[part] = (image[part] + rng.normal(0, 25, image[part].shape)).round().clip(0, 255).astype(np.uint8)
    return _whole(part)


KINDS: dict[str, Anomaly] = {
    "eye": _foreign_eye,
    "mouth": _foreign_mouth,
    "upside down": _mouth_upside_down,
    "occluder": _occluder,
    "blur": _blur,
    "noise": _noise,
}


@torch.inference_mode()
def found(model: models.Restorer, images: Tensor) -> Tensor:
    """Returns what a model finds, (N, 1, S, S): one of --task repair says it, of others the residual counts."""
    parts = images.split(BATCH)
    if isinstance(model.network, RepairUnet):
        return torch.cat([anomaly.heat(model, part) for part in parts])
    return residual(images, torch.cat([model(part, torch.ones_like(part[:, :1])) for part in parts]))


def residual(images: Tensor, made: Tensor) -> Tensor:
    """Returns how far images are from others, (N, 1, S, S), smoothed with a standard deviation of `SMOOTH` pixels."""
    apart = (images - made).abs().mean(1).numpy()
    return torch.from_numpy(np.stack([cv2.GaussianBlur(each, (0, 0), SMOOTH) for each in apart]))[:, None]


@torch.inference_mode()
def expected(model: models.Restorer, images: Tensor) -> Tensor:
    """Returns images, (N, 3, S, S), as a network expects them that sees only what is around each place.

    A hole slides over each image; where holes overlap, the mean of the fills counts.
    """
    steps = round((SIZE - HOLE) / STRIDE)
    starts = [round(number * (SIZE - HOLE) / steps) for number in range(steps + 1)]
    holes = torch.zeros(len(starts) ** 2, 1, SIZE, SIZE)
    for number, hole in enumerate(holes):
        top, left = starts[number // len(starts)], starts[number % len(starts)]
        hole[:, top : top + HOLE, left : left + HOLE] = 1
    made = torch.empty_like(images)
    with Meter("sliding", len(images)) as meter:
        for number, image in enumerate(images):
            fills = torch.cat([model(image * (1 - part), part) * part for part in holes.split(BATCH)])
            made[number] = fills.sum(0) / holes.sum(0)
            meter.add(1)
    return made


def rebuilt(linear: pca.Pca, images: Tensor) -> Tensor:
    """Returns images as a PCA rebuilds them from all its numbers."""
    everywhere = np.ones((SIZE, SIZE), np.bool_)
    made = [linear.rebuild(image, everywhere, len(linear.scale)) for image in as_bytes(images)]
    return as_floats(np.stack(made))


def compared(maps: dict[str, Tensor], wrong: Tensor) -> Table:
    """Returns the table of the areas under the ROC curves.

    Args:
        maps: by name, (N, 1, S, S), larger where something seems wrong.
        wrong: (N, S, S) bool; nothing is in the first half of them.
    """
    table = Table(f"{len(wrong) // 2} images twice", "images", "pixels", *KINDS)
    for name, each in maps.items():
        normal, damaged = anomaly.score(each).split(len(wrong) // 2)
        kinds = [_auroc(normal, damaged[number :: len(KINDS)]) for number in range(len(KINDS))]
        pixels = _auroc(each[:, 0][~wrong], each[:, 0][wrong])
        table.add_row(name, *(f"{area:.3f}" for area in (_auroc(normal, damaged), pixels, *kinds)))
    return table


def _auroc(right: Tensor, wrong: Tensor) -> float:
    labels = torch.cat([torch.zeros(len(right), dtype=torch.int), torch.ones(len(wrong), dtype=torch.int)])
    scores = torch.cat([right, wrong])
    # By rank: the metric would take numbers outside of [0, 1] for logits, and squeeze them.
    ranks = scores.argsort().argsort().float() / len(scores)
    return binary_auroc(ranks, labels).item()


def draw(path: Path, damaged: Pixels, where: NDArray[np.bool_], maps: dict[str, Tensor]) -> None:
    """Draws a row for each of the first images: the image, where its anomaly is, and each map."""
    rows = []
    for number in range(2 * len(KINDS)):
        parts = [damaged[number], np.repeat(255 * where[number][..., None].astype(np.uint8), 3, 2)]
        for each in maps.values():
            heat = (each[number] / each.flatten().topk(each.numel() // 500).values[-1]).clamp(0, 1)
            parts.append(np.repeat(heat.mul(255).byte().permute(1, 2, 0).numpy(), 3, 2))
        rows.append(np.concatenate(parts, 1))
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    main()
