"""Draws the masks of whole epochs on the cluster, ahead of training, while the pixels stay where they are.

One Ray Data execution draws the masks of all images for several epochs, from the images' ids alone, on all CPUs that
training leaves. They travel to the nodes that hold the pixels, compressed. A small execution takes 0.1 s whatever it
does, so that small data sets get the masks of many epochs at a time.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from faceae.corruption import masks
from faceae.data.cache import Blocks, Finish
from faceae.data.epoch import Drawn, EpochKey
from faceae.data.execution import for_numbers, lower_priority
from faceae.data.mapped import MappedTable
from faceae.data.reader import Rows, pixels_array
from faceae.tasks.base import Task

BURST_SECONDS = 2.0
"""The first execution draws the masks of as many epochs as this much work is, at least of one: brush strokes take seven
times as long as boxes, and training waits for all of them. Each draws twice as many as the one before, as long as that
took less time than this: with many GPUs an epoch is shorter than an execution of Ray Data."""

_TIMED = 64
"""Images whose masks are drawn to see how long that takes."""

CACHE_SHARE = 0.1
"""Share of the object store that may hold masks, so that the trials of a grid draw those of an epoch once."""

CODEC = "lz4"
"""Compression of the masks on their way to the ranks: the fastest to unpack, and it finds the runs in a mask."""


def draw(ids: Sequence[str], key: EpochKey, task: Task) -> NDArray[np.uint8]:
    """Draws the masks of some images in an epoch.

    Returns:
        (N, task.row_bytes) uint8, see `faceae.tasks`; if images are mirrored, each row has one byte more, 1 for an
        image that is.
    """
    drawn = task.draw(ids, key.seed, key.epoch)
    if not key.mirror:
        return drawn
    mirrored = masks.uniform(ids, seed=key.seed, epoch=key.epoch, count=5)[:, :1] < 0.5
    return np.concatenate([drawn, mirrored], axis=1, dtype=np.uint8)


def draw_with_pixels(key: EpochKey, task: Task) -> Finish:
    """Returns a function that adds an epoch's masks to a block: those of the first are drawn as images are decoded."""

    def draw_first_masks(block: pa.Table) -> pa.Table:
        rows = draw(block["image_id"].to_pylist(), key, task)
        return block.append_column(key.column, pixels_array(rows))

    return draw_first_masks


def draw_packed(numbers: Sequence[int], ids: pa.ListArray, keys: Sequence[EpochKey], task: Task) -> pa.Table:
    """Draws the masks of some blocks for some epochs.

    Args:
        numbers: the numbers of the blocks.
        ids: the ids of all blocks, see `faceae.data.cache.Blocks`.
        keys: the epochs.
        task: draws them.

    Returns:
        A row for each block: its number, how many images it has, and for each epoch the bytes of all its masks,
        compressed: a box takes 18 bytes instead of 2,048, brush strokes 300.
    """
    names = [ids[number].as_py() for number in numbers]
    packed = {"block": pa.array(numbers), "images": pa.array([len(each) for each in names])}
    for key in keys:
        drawn = (pa.py_buffer(draw(each, key, task)) for each in names)
        packed[key.column] = pa.array([pa.compress(each, CODEC, asbytes=True) for each in drawn], pa.large_binary())
    return pa.table(packed)


def seconds_each(task: Task, ids: Sequence[str]) -> float:
    """Returns how long the mask of an image takes, from those of some of these images."""
    ids = ids[:_TIMED]
    return min(timeit.repeat(lambda: task.draw(ids, 0, 0), number=1, repeat=2)) / len(ids)


class MaskRows:
    """An epoch's masks of a block.

    Attributes:
        rows: the masks, row by row, see `draw`.
        nbytes: bytes that they take in this process's own memory.
    """

    def __init__(self, table: MappedTable, block: int, key: EpochKey, width: int) -> None:
        """Unpacks the masks.

        Args:
            table: a table of `draw_packed`, or the block with `draw_with_pixels`, whose masks are used where they are.
            block: number of the block.
            key: the epoch.
            width: bytes of a row.
        """
        column = table.table[key.column]
        self.rows: Rows
        self.nbytes = 0
        if pa.types.is_large_binary(column.type):
            row = table.table["block"].to_pylist().index(block)
            self.nbytes = table.table["images"][row].as_py() * width
            content = pa.decompress(column[row].as_buffer(), decompressed_size=self.nbytes, codec=CODEC)
            self.rows = np.frombuffer(content, np.uint8).reshape(-1, width)
        else:
            self.rows = table.rows(key.column)


class MaskDrawer:
    """Draws the masks of epochs, one Ray Data execution at a time."""

    def __init__(self, blocks: Blocks, task: Task) -> None:
        """Sets up the drawer; it draws nothing yet.

        Args:
            blocks: the decoded images.
            task: draws them.
        """
        assert blocks.ids is not None
        self.blocks = len(blocks.refs)
        self.ids = ray.put(blocks.ids)
        self.task = task
        self._epoch_bytes: float = len(blocks) * task.row_bytes  # until compressed ones are there
        self._count = max(1, int(BURST_SECONDS / (seconds_each(task, blocks.ids[0].as_py()) * len(blocks))))

    @property
    def capacity(self) -> int:
        """Number of epochs whose masks may be kept."""
        store = ray.cluster_resources().get("object_store_memory", 0)
        return max(4, int(CACHE_SHARE * store / self._epoch_bytes))

    def burst(self, key: EpochKey, last: int) -> list[EpochKey]:
        """Returns the epochs to draw together, from `key` to at most the epoch `last`."""
        count = min(self._count, self.capacity // 3, last - key.epoch + 1)  # the store holds two bursts, and used ones
        return [key._replace(epoch=key.epoch + number) for number in range(count)]

    def draw(self, keys: Sequence[EpochKey]) -> list[Drawn]:
        """Draws the masks of some epochs.

        Raises:
            ray.exceptions.RayError: a task failed.
        """
        ids, task = self.ids, self.task

        def draw_masks(numbers: pa.Table) -> pa.Table:
            lower_priority()
            return draw_packed(numbers["id"].to_pylist(), ray.get(ids), keys, task)

        start = time.monotonic()
        tables, size = for_numbers(self.blocks, draw_masks)
        self._epoch_bytes = size / len(keys)
        if time.monotonic() - start < BURST_SECONDS:
            self._count = max(self._count, 2 * len(keys))
        return [Drawn(key, dict(enumerate(tables))) for key in keys]
