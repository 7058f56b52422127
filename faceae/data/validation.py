"""The validation images as batches: each image on exactly one rank, with a mask that never changes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from faceae.corruption.masks import VALIDATION_EPOCH
from faceae.data.batch import Batch
from faceae.data.cache import Blocks
from faceae.data.epoch import EpochKey
from faceae.data.mapped import Mapped
from faceae.data.reader import Rows
from faceae.tasks.base import Damage, Task

VALIDATION = EpochKey(seed=0, epoch=VALIDATION_EPOCH, mirror=False)
"""The masks of validation images, drawn as they are decoded: the same in every epoch and for every seed."""


def validation_batches(
    blocks: Blocks,
    task: Task,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    mapped: Mapped | None = None,
) -> Iterator[Batch]:
    """Yields one rank's share of the validation images, the next batch prepared by a thread.

    A rank's share is consecutive in the order of the blocks, so that it needs few blocks, the same in every epoch.

    Args:
        blocks: the validation images, with their masks (see `faceae.data.dataset`).
        task: what was drawn for them, and is done to them.
        batch_size: maximum number of images in a batch of this rank.
        rank: rank of this training worker.
        world_size: number of training workers.
        mapped: the blocks in this process's memory; by default one block at a time is kept.
    """
    cache = mapped or Mapped(0)
    share = [len(blocks) * each // world_size for each in (rank, rank + 1)]
    mine = blocks.positions()[share[0] : share[1]]

    def prepare(start: int) -> Batch | None:
        part = mine[start : start + batch_size]
        return _batch(blocks, part, cache, task) if len(part) else None

    with ThreadPoolExecutor(1, "validation") as thread:
        coming, start = thread.submit(prepare, 0), batch_size
        while batch := coming.result():
            coming, start = thread.submit(prepare, start), start + batch_size
            yield batch


def _batch(blocks: Blocks, positions: NDArray[np.int32], cache: Mapped, task: Task) -> Batch:
    images: list[NDArray[np.uint8]] = []
    drawn: list[NDArray[np.uint8]] = []
    for block in dict.fromkeys(positions[:, 0].tolist()):
        (table,) = cache.get([blocks.refs[block]])
        rows = positions[positions[:, 0] == block, 1].tolist()
        images += [table.rows("pixels")[row] for row in rows]
        drawn += [table.rows(VALIDATION.column)[row] for row in rows]
    return stack_batch(images, drawn, task.image_size, task.damage)


def stack_batch(images: Rows, drawn: Rows, image_size: int, damage: Damage) -> Batch:
    """Returns a batch with a copy of images, each (image_size * image_size * 3,) uint8, and what was drawn for them."""
    pixels = np.array(images).reshape(-1, image_size, image_size, 3)
    return Batch(pixels, np.array(drawn), len(images), damage=damage)
