"""Measures pictures of any size with Ray Data, for jobs/evaluate.py: restored by a model, or by another program.

A block of pictures passes two stages. `fill_holes` draws the holes and measures the baselines on CPUs, in the task that
reads and decodes the block. Then a `PictureScorer`, which holds a replica of the model, restores the pictures, on a GPU
if the cluster has one, and measures that. Only the metrics and the masks are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import torch

from faceae.cluster.replicas import REPLICA_CPUS
from faceae.data import frozen_masks
from faceae.data.execution import ActorPool, Replicas, stream
from faceae.data.pictures import PictureSource
from faceae.data.reader import BLOCK_BYTES
from faceae.data.sources import Entry
from faceae.evaluation import baselines
from faceae.evaluation.baselines import Comparison
from faceae.evaluation.holes import Holes
from faceae.evaluation.identity import DISTANCE, Identity
from faceae.evaluation.picture_metrics import EDGE_STEP, NAMES, Hole, Pixels, around, edge_step, known_change, measure
from faceae.models import Restorer
from faceae.tasks.base import Fill

KNOWN_CHANGE = ("known_change_max", "known_change_mean")
"""What another program changed outside the hole, of 255; it is not scored."""


class PictureScoring(NamedTuple):
    """What restores the pictures, and what it is measured on.

    Attributes:
        model: the model; None if the pictures in `restored` are measured.
        restored: by image_id, pictures that another program has restored, in the order of the holes.
        holes: the holes.
        side: side in pixels of synthetic portraits, and of all pictures unless they keep their own size.
        own_size: whether pictures keep their own size.
        comparison: the baselines.
        identity: whether the faces before and after are compared, see `faceae.evaluation.identity`.
    """

    model: Restorer | None
    restored: Mapping[str, Sequence[Entry]]
    holes: Holes
    side: int
    own_size: bool
    comparison: Comparison
    identity: bool = False

    def source(self, entries: Sequence[Entry]) -> PictureSource:
        """Returns the source of some pictures."""
        return PictureSource(entries, self.restored, self.side, self.own_size)


def score_pictures(entries: Sequence[Entry], scoring: PictureScoring, replicas: Replicas) -> Iterator[pa.Table]:
    """Reads, restores and measures pictures on the cluster.

    Args:
        entries: the pictures.
        scoring: the model, or restored pictures, and the holes.
        replicas: the replicas of the model.

    Yields:
        Tables, in any order, with a row for each hole of each picture: the columns of `faceae.data.frozen_masks`,
        reason, hole_pixels, original_edge_step, the metrics `picture_metrics.NAMES`, those of the baselines under names
        like `telea_hole_mse` (NaN where they were not measured), for restored pictures `KNOWN_CHANGE`, and perhaps
        `identity.DISTANCE`. A picture that cannot be measured has one row with only image_id and reason.

    Raises:
        ray.exceptions.RayError: the storage failed during reading.
    """
    source = scoring.source(entries)
    compared = ray.put(scoring.comparison)

    def finish(block: pa.Table) -> pa.Table:
        return fill_holes(block, scoring.holes, ray.get(compared))

    arguments = (ray.put(scoring.model), replicas.device, scoring.identity)
    pool = ActorPool(PictureScorer, arguments, replicas.at_most(len(source.units)))
    yield from stream(source, len(source.units), pool, finish=finish, block_bytes=BLOCK_BYTES)


def fill_holes(block: pa.Table, holes: Holes, comparison: Comparison) -> pa.Table:
    """Adds `holes` to a block of `PictureSource`: for each picture a list of masks with the baselines' metrics."""
    fills = baselines.available(comparison.pca)
    rows = block.to_pylist()
    usable = [row for row in rows if row["reason"] is None]
    pictures = [unpacked(row) for row in usable]
    places = [(row["image_id"], *pixels.shape[:2]) for row, pixels in zip(usable, pictures, strict=True)]
    for row, pixels, masks in zip(usable, pictures, holes.rows(places), strict=True):
        row["reason"] = _fault(masks, *pixels.shape[:2])
        if row["reason"] is None:
            measured = row["image_id"] in comparison.image_ids
            row["holes"] = [mask | _baselines(pixels, frozen_masks.unpacked(mask), fills, measured) for mask in masks]
    return pa.Table.from_pylist([{"holes": None} | row for row in rows])


def _fault(masks: Sequence[frozen_masks.Row], height: int, width: int) -> str | None:
    if not masks:
        return f"{width}x{height} pixels are too few for any of the holes"
    mask = masks[0]
    if (mask["height"], mask["width"]) != (height, width):
        return f"it is {width}x{height} pixels, its mask in the file {mask['width']}x{mask['height']}"
    return None


def _baselines(pixels: Pixels, hole: Hole, fills: Mapping[str, Fill], compared: bool) -> dict[str, Any]:
    at = around(hole)
    about = {"hole_pixels": int(hole.sum()), f"original_{EDGE_STEP}": edge_step(pixels[at], hole[at])}
    if not compared:
        return about | {f"{name}_{metric}": math.nan for name in fills for metric in NAMES}
    given = np.where(hole[..., None], np.uint8(0), pixels)
    filled_by = {}
    for name, fill in fills.items():
        filled = fill(given, hole)[at] if name in baselines.OF_WHOLE_PICTURE else fill(given[at].copy(), hole[at])
        filled_by[name] = np.where(hole[at][..., None], filled, pixels[at])
    measured = {
        f"{name}_{metric}": value
        for name, values in measure(pixels[at], hole[at], filled_by, hole.size).items()
        for metric, value in values.items()
    }
    return about | measured


class PictureScorer:
    """A replica of the model in its own process, if there is one; called with blocks of `fill_holes`."""

    def __init__(self, model: ray.ObjectRef, device: str, compares_faces: bool) -> None:
        self.identity = Identity() if compares_faces else None
        torch.set_num_threads(REPLICA_CPUS)
        restorer: Restorer | None = ray.get(model)
        self.model = restorer and restorer.to(device)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Measures what the model restores, or what was restored; returns a row for each hole, without pixels."""
        rows = block.to_pylist()
        bad = [{"image_id": row["image_id"], "reason": row["reason"]} for row in rows if row["reason"] is not None]
        measured = [self._measured(*each) for each in restored(self.model, rows)]
        return pa.Table.from_pylist(measured + bad)  # the first row names the columns

    def _measured(self, pixels: Pixels, mask: frozen_masks.Row, hole: Hole, made: Pixels) -> dict[str, Any]:
        at = around(hole)
        filled = np.where(hole[at][..., None], made[at], pixels[at])
        (values,) = measure(pixels[at], hole[at], {"": filled}, hole.size).values()
        changed = () if self.model else zip(KNOWN_CHANGE, known_change(pixels, made, hole), strict=True)
        if self.identity:
            values[DISTANCE] = self.identity.distance(pixels, np.where(hole[..., None], made, pixels))
        return {"reason": None} | mask | dict(changed) | values


def restored(
    model: Restorer | None, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Pixels, frozen_masks.Row, Hole, Pixels]]:
    """Restores the usable pictures of a block, once in each of their holes.

    Args:
        model: the model; None if another program has restored the pictures.
        rows: rows of a block of `fill_holes`.

    Yields:
        For each hole the picture, the row and the pixels of the mask, and the restored picture.
    """
    whole = [(unpacked(row), row) for row in rows if row["reason"] is None]
    work = [(pixels, row, number) for pixels, row in whole for number in range(len(row["holes"]))]
    # Full batches for the network if the pictures are small, and bounded memory if they are large.
    at_once = max(1, BLOCK_BYTES // max((pixels.nbytes for pixels, _ in whole), default=1))
    for start in range(0, len(work), at_once):
        part = work[start : start + at_once]
        masks = [row["holes"][number] for _, row, number in part]
        pictures, holes = [pixels for pixels, _, _ in part], [frozen_masks.unpacked(mask) for mask in masks]
        if model:
            made = model.restore(pictures, holes)
        else:
            made = [_array(row["restored"][number], row["height"]) for _, row, number in part]
        yield from zip(pictures, masks, holes, made, strict=True)


def unpacked(row: Mapping[str, Any]) -> Pixels:
    """Returns the pixels of a row of a block, (H, W, 3) uint8."""
    return _array(row["pixels"], row["height"])


def _array(pixels: bytes, height: int) -> Pixels:
    return np.frombuffer(pixels, np.uint8).reshape(height, -1, 3)
