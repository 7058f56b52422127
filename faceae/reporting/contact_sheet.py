"""Contact sheets: rows of images as the article shows them, restored by a model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from faceae import metrics, models
from faceae.data.batch import Batch
from faceae.data.cache import Blocks
from faceae.data.loader import validation_batches
from faceae.training import engine

FACES = 8
"""Images in a contact sheet."""

_ROWS = ("original", "given", "reconstructed", "composited")


def contact_sheet(model_uri: str, val: Blocks, image_size: int) -> Image.Image:
    """The first validation images, restored by a saved model; see `sheet`."""
    return sheet(models.load(model_uri), next(validation_batches(val, image_size, FACES)))


@torch.inference_mode()
def sheet(network: nn.Module, batch: Batch) -> Image.Image:
    """Draws four rows (original, given, reconstructed, composited) with a column for each image.

    Args:
        network: the network, on the CPU and in evaluation mode.
        batch: the images to show.
    """
    data = engine.to_device(batch, torch.device("cpu"))
    output = network(data.given, data.mask)
    pasted = metrics.composite(output, data.original, data.mask)
    rows = [_side_by_side(row) for row in (data.original, data.given, output, pasted)]
    height, width = rows[0].shape[:2]
    font = ImageFont.load_default(size=max(10, height // 8))
    margin = 8 + max(int(font.getlength(name)) for name in _ROWS)
    whole = Image.new("RGB", (margin + width, len(rows) * height), "white")
    pen = ImageDraw.Draw(whole)
    for i, (name, row) in enumerate(zip(_ROWS, rows, strict=True)):
        pen.text((4, i * height + height // 2), name, fill="black", font=font, anchor="lm")
        whole.paste(Image.fromarray(row), (margin, i * height))
    return whole


def _side_by_side(images: torch.Tensor) -> NDArray[np.uint8]:
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return np.concatenate(list(pixels), axis=1)
