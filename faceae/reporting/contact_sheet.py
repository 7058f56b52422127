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
from faceae.training.transfer import to_device

FACES = 8
"""Number of images in a contact sheet."""


def contact_sheet(model_uri: str, val: Blocks, image_size: int) -> Image.Image:
    """Draws the first validation images, restored by a saved model; see `sheet`."""
    return sheet(models.load(model_uri), next(validation_batches(val, image_size, FACES)))


@torch.inference_mode()
def sheet(network: nn.Module, batch: Batch) -> Image.Image:
    """Draws four rows (original, given, reconstructed, composited) with a column for each image.

    Args:
        network: the network, on the CPU and in evaluation mode.
        batch: the images to show.
    """
    data = to_device(batch, torch.device("cpu"))
    output = network(data.given, data.mask)
    pasted = metrics.composite(output, data.original, data.mask)
    rows = {"original": data.original, "given": data.given, "reconstructed": output, "composited": pasted}
    return draw_rows({name: (images * 255).round().byte().permute(0, 2, 3, 1).numpy() for name, images in rows.items()})


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
