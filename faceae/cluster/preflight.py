"""Checks before any worker starts whether a network can be trained, by arithmetic: torch takes seconds to import.

What they cannot know, such as the memory of a GPU, the workers report, see `faceae.cluster.failures`.
"""

from __future__ import annotations

import ray

from faceae.cluster.placement import Placement
from faceae.config import Settings
from faceae.errors import InputError

_COPIES = {"adam": 2, "sgd": 0, "rmsprop": 1, "muon": 1}
"""Numbers that an optimizer keeps for each weight."""

_WEIGHT_BYTES = 4


def weights_at_least(settings: Settings) -> int:
    """Returns a lower bound of the number of a network's weights; a large network has few more.

    It counts the two dense layers of the article's network, and the 3x3 convolutions in the U-Net's blocks.
    """
    model = settings.model
    if model.name == "unet":
        return 12 * (4**model.levels - 1) * model.blocks * model.width**2
    return 2 * model.latent_dim * 64 * (settings.data.image_size // 16) ** 2


def check_network(settings: Settings, placed: Placement) -> None:
    """Checks that the network fits into the memory of a node, and that batch norm gets enough images.

    Raises:
        InputError: no worker could train it.
    """
    weights = weights_at_least(settings)
    # A GPU holds the rest, but the network is built in the memory of its node.
    kept = 1 if placed.gpu else 2 + _COPIES[settings.optim.name] + bool(settings.optim.average)
    needed, there = weights * kept * _WEIGHT_BYTES, _node_bytes()
    if needed > there:
        model = settings.model
        wide = f"--model.width {model.width}" if model.name == "unet" else f"--model.latent-dim {model.latent_dim}"
        raise InputError(
            f"{wide}: the network and its optimizer need at least {needed / 1e9:,.1f} GB of memory, and no "
            f"node has more than {there / 1e9:,.1f} GB free; use a smaller network, or smaller --data.image-size"
        )
    check_batch_norm(settings, placed, settings.train.batch_size)


def check_batch_norm(settings: Settings, placed: Placement, images: int) -> None:
    """Checks that every rank has two values for each mean of batch norm, in every batch of an epoch.

    At 16x16 pixels the deepest features of the article's network have a single pixel, so two images are needed.

    Args:
        settings: the run's settings.
        placed: the run's workers; several GPUs share their statistics.
        images: number of images in an epoch.

    Raises:
        InputError: a rank would get a batch of one image.
    """
    if settings.model.name == "unet" or settings.data.image_size > 16 or (placed.gpu and placed.workers > 1):
        return
    full, rest = divmod(images, settings.train.batch_size)
    rows = [settings.train.batch_size] * (full > 0) + [rest] * (rest >= placed.max_workers and rest > 0)
    if min(rows, default=2) // placed.max_workers < 2:
        raise InputError(
            f"--train.batch-size {settings.train.batch_size}: in some batches a worker would get a single image, and "
            "batch norm needs two at this --data.image-size; use another batch size, or larger images"
        )


def _node_bytes() -> float:
    """Returns the memory of the largest node, as Ray counts it: in two parts."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max(there.get("memory", 0) + there.get("object_store_memory", 0) for there in nodes)
