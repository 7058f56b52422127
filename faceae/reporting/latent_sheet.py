"""What an autoencoder's latent space looks like: faces drawn at random, and the way from one face to another."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from faceae import models
from faceae.data.batch import Batch
from faceae.data.cache import Blocks
from faceae.data.validation import validation_batches
from faceae.models import ArticleAutoencoder, VariationalAutoencoder
from faceae.reporting.contact_sheet import as_pixels, draw_rows
from faceae.tasks import Task
from faceae.training.transfer import to_device

COLUMNS = 8
_BATCH = 64


FACES = 512
"""Number of faces whose latent vectors tell how they are distributed."""


def latent_sheet(model_uri: str, val: Blocks, task: Task) -> Image.Image:
    """Draws the latent space of a saved model with the first validation images, see `draw`."""
    network: ArticleAutoencoder = models.load(model_uri).network  # type: ignore[assignment]
    return draw(network, islice(validation_batches(val, task, _BATCH), FACES // _BATCH))


@torch.inference_mode()
def draw(network: ArticleAutoencoder, batches: Iterable[Batch]) -> Image.Image:
    """Draws faces of random latent vectors, and two rows with the way from a first face to a second.

    The latent vectors are drawn from the normal distribution with the mean and the covariance of the given faces'
    vectors; those of a variational autoencoder's first row from the standard normal distribution. The way leads along
    a line through the latent space, in the last row through the pixels.

    Args:
        network: the network, on the CPU and in evaluation mode.
        batches: faces, in batches of `COLUMNS` or more.
    """
    data = [to_device(batch, torch.device("cpu")) for batch in batches]
    latents = torch.cat([network.encode(each.given, each.mask) for each in data])
    generator = torch.Generator().manual_seed(0)
    drawn = normal(latents, 2 * COLUMNS, generator)
    variational = isinstance(network, VariationalAutoencoder)
    if variational:
        drawn[:COLUMNS] = torch.randn(COLUMNS, latents.shape[1], generator=generator)
    share = torch.linspace(0, 1, COLUMNS)[:, None]
    way = latents[0] + share * (latents[1] - latents[0])
    first, second = data[0].original[:2]
    faded = first + share[..., None, None] * (second - first)
    rows = {
        "standard normal" if variational else "drawn at random": network.decode(drawn[:COLUMNS]),
        "fitted normal" if variational else "others": network.decode(drawn[COLUMNS:]),
        "by latent vectors": network.decode(way),
        "by pixels": faded,
    }
    return draw_rows({name: as_pixels(images) for name, images in rows.items()})


def normal(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws (count, D) from the normal distribution with the mean and the covariance of (N, D), whatever its rank."""
    weights = torch.randn(count, len(values), generator=generator) / max(len(values) - 1, 1) ** 0.5
    return values.mean(0) + weights @ (values - values.mean(0))
