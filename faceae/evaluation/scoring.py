"""Computes every metric of each image with Ray Data, for jobs/evaluate.py.

A block of images passes two stages. `add_baselines` runs on CPUs, in the task that reads and decodes the block. Then a
`Scorer`, which holds a replica of the model, measures it, on a GPU if the cluster has one. Only the metrics are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceae import metrics
from faceae.cluster.replicas import REPLICA_CPUS
from faceae.data import frozen_masks
from faceae.data.batch import Batch
from faceae.data.execution import ActorPool, Replicas, execute
from faceae.data.reader import FaceSource, column_rows, pixels_array
from faceae.data.sources import Entry
from faceae.data.validation import stack_batch
from faceae.evaluation import baselines
from faceae.evaluation.baselines import Comparison
from faceae.evaluation.holes import Holes
from faceae.evaluation.identity import DISTANCE, Identity
from faceae.tasks import Inpaint, Task
from faceae.training import engine

SCORES = {"article": "mse", "vae": "mse", "unet": "hole_mse"}
"""The metric that is the anomaly score, by model.name: the error over everything that the network draws. The article's
network redraws the whole face; a U-Net leaves the known pixels as they were given, without error."""


class Scoring(NamedTuple):
    """A model, what it is measured on, and how.

    Attributes:
        network: the network, as `faceae.models.load` returns it.
        holes: the hole of each image.
        task: what is done to the images, at the model's size.
        batch_size: number of images in a forward pass.
        comparison: the baselines.
        identity: whether the faces before and after are compared, see `faceae.evaluation.identity`.
    """

    network: nn.Module
    holes: Holes
    task: Task
    batch_size: int
    comparison: Comparison
    identity: bool = False


def score(entries: Sequence[Entry], scoring: Scoring, replicas: Replicas) -> Iterator[pa.Table]:
    """Reads, decodes and measures images on the cluster, in the order in which `FaceSource` reads them.

    Args:
        entries: the images.
        scoring: the model and the masks.
        replicas: the replicas of the model.

    Yields:
        Tables with the columns image_id, reason (null for a usable image; the metrics of the others are meaningless),
        the other columns of `faceae.data.frozen_masks`, hole_pixels, the model's metrics by name, and those of the
        baselines under names like `telea_hole_mse`, NaN where they were not measured; perhaps `identity.DISTANCE`.

    Raises:
        ray.exceptions.RayError: the storage failed during reading.
    """
    holes, task, batch_size, comparison, compares_faces = scoring[1:]
    source = FaceSource(entries, task.image_size)
    compared = ray.put(comparison)

    def finish(block: pa.Table) -> pa.Table:
        return add_baselines(block, holes, task, batch_size, ray.get(compared))

    arguments = (ray.put(scoring.network), task, batch_size, replicas.device, compares_faces)
    pool = ActorPool(Scorer, arguments, replicas.at_most(len(source.units)))
    for ref, _ in execute(source, len(source.units), finish, pool):
        yield ray.get(ref)


def add_baselines(block: pa.Table, holes: Holes, task: Task, batch_size: int, comparison: Comparison) -> pa.Table:
    """Adds masks, what was drawn as `drawn`, `hole_pixels` and the baselines' metrics to a block of `FaceSource`."""
    size, ids = task.image_size, block["image_id"].to_pylist()
    rows = [row for (row,) in holes.rows([(name, size, size) for name in ids])]
    for field in frozen_masks.SCHEMA.remove(0):
        block = block.append_column(field, pa.array([row[field.name] for row in rows], field.type))
    block = block.append_column("drawn", pixels_array(drawn(task, rows)))
    hidden = [int.from_bytes(frozen_masks.bits(row)).bit_count() for row in rows]
    block = block.append_column("hole_pixels", pa.array(hidden, pa.int32()))
    fills = baselines.available(comparison.pca, task)
    compared = np.array([image_id in comparison.image_ids for image_id in ids])
    measured = [
        baselines.per_image(batch, fills) for batch in _batches(block.filter(pa.array(compared)), task, batch_size)
    ]
    for name in fills:
        for metric in metrics.NAMES:
            values = np.full(len(block), np.nan, np.float32)
            if measured:
                values[compared] = torch.cat([batch[name][metric] for batch in measured]).numpy()
            block = block.append_column(f"{name}_{metric}", pa.array(values))
    return block


def drawn(task: Task, rows: Sequence[frozen_masks.Row]) -> NDArray[np.uint8]:
    """Returns what is drawn for images, (N, task.row_bytes): their masks as given here, or what another task draws."""
    if isinstance(task, Inpaint):
        return np.stack([np.frombuffer(frozen_masks.bits(row), np.uint8) for row in rows])
    return task.draw_validation([row["image_id"] for row in rows])


class Scorer:
    """A replica of the model in its own process; called with blocks of `add_baselines`."""

    def __init__(self, network: ray.ObjectRef, task: Task, batch_size: int, device: str, compares_faces: bool) -> None:
        self.identity = Identity() if compares_faces else None
        self.device = torch.device(device)
        if self.device.type == "cpu":
            torch.set_num_threads(REPLICA_CPUS)
        copy: nn.Module = ray.get(network)
        self.network = copy.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        settings: Any = copy.settings
        self.bf16 = engine.in_bf16(settings.train.precision, self.device)
        self.task, self.batch_size = task, batch_size

    def __call__(self, block: pa.Table) -> pa.Table:
        """Adds the model's metrics to a block and drops its pixels and masks."""
        measured = [self._measured(batch) for batch in _batches(block, self.task, self.batch_size)]
        return _append(block.drop_columns(["pixels", "drawn"]), measured)

    @torch.inference_mode()
    def _measured(self, batch: Batch) -> dict[str, Tensor]:
        output, data = engine.restore(self.network, batch, device=self.device, bf16=self.bf16)
        values = metrics.per_example(output, data.original, data.mask)
        if self.identity:
            made = metrics.composite(output, data.original, data.mask).mul(255).round().byte()
            pairs = zip(batch.pixels, made.permute(0, 2, 3, 1).cpu().numpy(), strict=True)
            values[DISTANCE] = torch.tensor([self.identity.distance(*pair) for pair in pairs])
        return values


def _batches(block: pa.Table, task: Task, batch_size: int) -> Iterator[Batch]:
    pixels, drawn = column_rows(block, "pixels"), column_rows(block, "drawn")
    for start in range(0, len(pixels), batch_size):
        end = start + batch_size
        yield stack_batch(pixels[start:end], drawn[start:end], task.image_size, task.damage)


def _append(block: pa.Table, measured: Sequence[dict[str, Tensor]]) -> pa.Table:
    """Adds a float32 column for each of the metrics, given batch by batch."""
    for name in measured[0]:
        values = torch.cat([batch[name] for batch in measured])
        block = block.append_column(name, pa.array(values.float().cpu().numpy()))
    return block
