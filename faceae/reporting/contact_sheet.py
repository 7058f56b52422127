"""Contact sheets: images restored by a model, in rows as the article shows them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from faceae import metrics, models
from faceae.data.batch import Batch
from faceae.data.cache import Blocks
from faceae.data.validation import validation_batches
from faceae.tasks import Task
from faceae.tasks.base import Fill
from faceae.training.transfer import to_device

FACES = 8
"""Number of images in a contact sheet."""


SIDE = 192
"""Side in pixels of a part of a picture as it is drawn; parts around smaller holes are not scaled down."""


def contact_sheets(model_uri: str, val: Blocks, task: Task, baseline: str, fill: Fill) -> dict[str, Image.Image]:
    """Draws the first validation images, restored by a saved model.

    Args:
        model_uri: the model.
        val: the validation images.
        task: what is done to them.
        baseline: name of a baseline, to be shown beside the model.
        fill: fills holes as that baseline does.

    Returns:
        `faces`, see `sheet`, and `holes`, see `holes`.
    """
    network, batch = models.load(model_uri), next(validation_batches(val, task, FACES))
    return {"faces": sheet(network, batch), "holes": holes(network, batch, baseline, fill)}


@torch.inference_mode()
def sheet(network: nn.Module, batch: Batch) -> Image.Image:
    """Draws rows (original, given, reconstructed, and composited if pixels are known) with a column for each image.

    Args:
        network: the network, on the CPU and in evaluation mode.
        batch: the images to show.
    """
    data = to_device(batch, torch.device("cpu"))
    output = network(data.given, data.mask)
    rows = {"original": data.original, "given": data.given, "reconstructed": output}
    if not data.mask.all():
        rows["composited"] = metrics.composite(output, data.original, data.mask)
    return draw_rows({name: as_pixels(images) for name, images in rows.items()})


@torch.inference_mode()
def holes(network: nn.Module, batch: Batch, baseline: str, fill: Fill) -> Image.Image:
    """Draws the part around each hole, enlarged, in rows: original, given, the baseline if it changes anything, and
    the composite.

    Args:
        network: the network, on the CPU and in evaluation mode.
        batch: the images to show.
        baseline: the baseline's name.
        fill: fills holes as it does.
    """
    data = to_device(batch, torch.device("cpu"))
    pasted = as_pixels(metrics.composite(network(data.given, data.mask), data.original, data.mask))
    given, hidden = as_pixels(data.given), data.mask[:, 0].bool().numpy()
    filled = np.stack([fill(image, hole) for image, hole in zip(given, hidden, strict=True)])
    rows = {"original": batch.pixels, "given": given}
    if (filled != given).any():
        rows[baseline] = filled
    rows["this model"] = pasted
    parts = [window(hole, hole.shape[0] // 2) for hole in hidden]
    return draw_rows(
        {
            name: np.stack([scaled(image[part]) for image, part in zip(images, parts, strict=True)])
            for name, images in rows.items()
        }
    )


def draw_rows(rows: Mapping[str, NDArray[np.uint8]]) -> Image.Image:
    """Draws rows of images with their names on the left.

    Args:
        rows: name -> (N, S, S, 3) uint8, N and S the same for all rows.
    """
    drawn = {name: np.concatenate(list(images), axis=1) for name, images in rows.items()}
    height, width = next(iter(drawn.values())).shape[:2]
    font = ImageFont.load_default(size=max(10, height // 8))
    margin = 8 + max(int(font.getlength(name)) for name in drawn)
    whole = Image.new("RGB", (margin + width, len(drawn) * height), "white")
    pen = ImageDraw.Draw(whole)
    for i, (name, row) in enumerate(drawn.items()):
        pen.text((4, i * height + height // 2), name, fill="black", font=font, anchor="lm")
        whole.paste(Image.fromarray(row), (margin, i * height))
    return whole


def window(hole: NDArray[np.bool_], least: int) -> tuple[slice, slice]:
    """Returns the rows and columns of a square with a compact hole and its surroundings, or with part of a long one.

    Args:
        hole: (H, W) bool, True inside the hole.
        least: side in pixels of the square around a small hole.
    """
    places = np.nonzero(hole)
    extent = max(int(np.ptp(along)) + 1 for along in places)
    if len(places[0]) > extent**2 / 4:  # a box
        middle = [(int(along.min()) + int(along.max())) // 2 for along in places]
        side = max(least, 3 * extent // 2)
    else:
        middle = [int(along[len(along) // 2]) for along in places]
        side = least
    side = min(side, *hole.shape)
    starts = [min(max(0, at - side // 2), length - side) for at, length in zip(middle, hole.shape, strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def scaled(part: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scales a square part of a picture to `SIDE`."""
    return np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def as_pixels(images: torch.Tensor) -> NDArray[np.uint8]:
    """Returns (N, 3, S, S) float in [0, 1] as (N, S, S, 3) uint8."""
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
