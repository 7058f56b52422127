"""One value of every metric for each image: what Ray Data does in jobs/evaluate.py.

A block goes through two stages. `add_baselines` runs in the task that reads and decodes it, on CPUs; a `Scorer`, which
holds a copy of the model, takes it from there, on a GPU where there are any. What is left of a block are its figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import torch
from torch import Tensor, nn

from faceae.cluster.replicas import REPLICA_CPUS
from faceae.config import Mask
from faceae.corruption import masks
from faceae.data.batch import Batch
from faceae.data.execution import ActorPool, Replicas, execute
from faceae.data.loader import stack_batch
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import FaceSource, column_rows, pixels_array
from faceae.data.sources import Entry
from faceae.evaluation import baselines
from faceae.training import engine

SCORES = {"article": "mse", "unet": "hole_mse"}
"""By model.name, the metric that is the anomaly score: the error of all that a network draws. The article's redraws the
whole face; what a U-Net leaves as it was given has no error."""


class Scoring(NamedTuple):
    """A model, what it is measured on, and how.

    Attributes:
        network: see `faceae.models.load`.
        holes: what is hidden from it.
        batch_size: images that it takes at a time.
    """

    network: nn.Module
    mask_generator: MaskGenerator
    batch_size: int


def score(entries: Sequence[Entry], scoring: Scoring, replicas: Replicas) -> Iterator[pa.Table]:
    """Reads, decodes and measures images on the cluster, in the order in which `FaceSource` reads them.

    Args:
        entries: the images.
        scoring: the model and the masks.
        copies: of the model.

    Yields:
        Tables of image_id, reason (null for an image that could be used; the figures of others mean nothing), kind,
        hole_pixels, the metrics of the model by their names, and those of the baselines as `telea_hole_mse`.

    Raises:
        ray.exceptions.RayError: the storage failed while reading.
    """
    mask_generator, batch_size = scoring.mask_generator, scoring.batch_size
    source = FaceSource(entries, mask_generator.image_size)

    def finish(block: pa.Table) -> pa.Table:
        return add_baselines(block, mask_generator, batch_size)

    arguments = (ray.put(scoring.network), mask_generator.image_size, batch_size)
    pool = ActorPool(Scorer, arguments, replicas.at_most(len(source.units)))
    for ref, _ in execute(source, len(source.units), finish, pool):
        yield ray.get(ref)


def add_baselines(block: pa.Table, mask_generator: MaskGenerator, batch_size: int) -> pa.Table:
    """A block of `FaceSource` with `mask`, `kind`, `hole_pixels` and the metrics of the baselines."""
    ids = block["image_id"].to_pylist()
    bits = mask_generator.draw_validation(ids)
    block = block.append_column("mask", pixels_array(bits))
    block = block.append_column("kind", pa.array(kinds(ids, mask_generator.mask), pa.string()))
    hidden = masks.unpack(bits, mask_generator.image_size).sum((1, 2), dtype=np.int32)
    block = block.append_column("hole_pixels", pa.array(hidden))
    measured = [
        {
            f"{name}_{metric}": values
            for name, metrics in baselines.per_image(batch).items()
            for metric, values in metrics.items()
        }
        for batch in _batches(block, mask_generator.image_size, batch_size)
    ]
    return _append(block, measured)


def kinds(image_ids: Sequence[str], mask: Mask) -> list[str]:
    """Of which kind the validation mask of each image is."""
    return masks.kinds(image_ids, mask, seed=0, epoch=masks.VALIDATION_EPOCH)


class Scorer:
    """A copy of the model in a process of its own; called with blocks of `add_baselines`."""

    def __init__(self, network: ray.ObjectRef, image_size: int, batch_size: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(REPLICA_CPUS)
        copy: nn.Module = ray.get(network)
        self.network = copy.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        settings: Any = copy.settings
        self.bf16 = engine.in_bf16(settings.train.precision, self.device)
        self.image_size, self.batch_size = image_size, batch_size

    def __call__(self, block: pa.Table) -> pa.Table:
        """The block with the model's metrics, without its pixels and masks."""
        measured = [
            engine.measure(self.network, batch, device=self.device, bf16=self.bf16)
            for batch in _batches(block, self.image_size, self.batch_size)
        ]
        return _append(block.drop_columns(["pixels", "mask"]), measured)


def _batches(block: pa.Table, image_size: int, batch_size: int) -> Iterator[Batch]:
    pixels, bits = column_rows(block, "pixels"), column_rows(block, "mask")
    for start in range(0, len(pixels), batch_size):
        end = start + batch_size
        yield stack_batch(pixels[start:end], bits[start:end], image_size)


def _append(block: pa.Table, measured: Sequence[dict[str, Tensor]]) -> pa.Table:
    """Adds a float32 column for each of the metrics, given batch by batch."""
    for name in measured[0]:
        values = torch.cat([batch[name] for batch in measured])
        block = block.append_column(name, pa.array(values.float().cpu().numpy()))
    return block
