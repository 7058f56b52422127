"""Draws the masks of whole epochs on the cluster, ahead of training, while the pixels stay where they are.

One Ray Data execution draws the masks of all blocks for several epochs, each block's in a task on a node that holds the
block. A small execution takes 0.1 s whatever it does, so that small data sets get the masks of many epochs at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from faceae.corruption import masks
from faceae.data.cache import Blocks, Finish
from faceae.data.epoch import Drawn, EpochKey
from faceae.data.execution import lower_priority, map_blocks
from faceae.data.mapped import MappedTable
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import Rows, pixels_array

BURST_BYTES = 256 * 2**20
"""Bytes of masks that an execution draws, before they are compressed; more if those of a single epoch take more."""

CACHE_SHARE = 0.1
"""Share of the object store that may hold masks, so that the trials of a grid draw those of an epoch once."""

CODEC = "lz4"
"""Compression of the masks on their way to the ranks: the fastest to unpack, and it finds the runs in a mask."""


def draw(ids: Sequence[str], key: EpochKey, mask_generator: MaskGenerator) -> NDArray[np.uint8]:
    """Draws the masks of some images in an epoch.

    Returns:
        (N, image_size * image_size / 8) uint8, see `faceae.corruption.masks.pack`; if images are mirrored, each row has
        one byte more, 1 for an image that is.
    """
    drawn = mask_generator.draw(ids, key.seed, key.epoch)
    if not key.mirror:
        return drawn
    mirrored = masks.uniform(ids, seed=key.seed, epoch=key.epoch, count=5)[:, :1] < 0.5
    return np.concatenate([drawn, mirrored], axis=1, dtype=np.uint8)


def draw_with_pixels(key: EpochKey, mask_generator: MaskGenerator) -> Finish:
    """Returns a function that adds an epoch's masks to a block: those of the first are drawn as images are decoded."""

    def draw_first_masks(block: pa.Table) -> pa.Table:
        rows = draw(block["image_id"].to_pylist(), key, mask_generator)
        return block.append_column(key.column, pixels_array(rows))

    return draw_first_masks


def draw_packed(ids: Sequence[str], keys: Sequence[EpochKey], mask_generator: MaskGenerator) -> pa.Table:
    """Draws the masks of a block's images for some epochs.

    Returns:
        A table of one row, in which the column of each epoch has the bytes of all masks, compressed: a box takes 18
        bytes instead of 2,048, brush strokes 300.
    """
    packed = {"rows": pa.array([len(ids)])}
    for key in keys:
        content = pa.compress(pa.py_buffer(draw(ids, key, mask_generator)), codec=CODEC, asbytes=True)
        packed[key.column] = pa.array([content], pa.large_binary())
    return pa.table(packed)


class MaskRows:
    """An epoch's masks of a block.

    Attributes:
        rows: the masks, row by row, see `draw`.
        nbytes: bytes that they take in this process's own memory.
    """

    def __init__(self, table: MappedTable, key: EpochKey, width: int) -> None:
        """Unpacks the masks.

        Args:
            table: a table of `draw_packed`, or a block of `draw_with_pixels`, whose masks are used where they are.
            key: the epoch.
            width: bytes of a row.
        """
        column = table.table[key.column]
        self.rows: Rows
        self.nbytes = 0
        if pa.types.is_large_binary(column.type):
            self.nbytes = table.table["rows"][0].as_py() * width
            content = pa.decompress(column[0].as_buffer(), decompressed_size=self.nbytes, codec=CODEC)
            self.rows = np.frombuffer(content, np.uint8).reshape(-1, width)
        else:
            self.rows = table.rows(key.column)


class MaskDrawer:
    """Draws the masks of epochs, one Ray Data execution at a time."""

    def __init__(self, blocks: Blocks, mask_generator: MaskGenerator) -> None:
        """Sets up the drawer; it draws nothing yet.

        Args:
            blocks: the decoded images.
            mask_generator: draws the masks.
        """
        self.dataset = ray.data.from_arrow_refs(blocks.refs)
        self.mask_generator = mask_generator
        self.epoch_bytes = len(blocks) * mask_generator.image_size**2 // 8
        store = ray.cluster_resources().get("object_store_memory", 0)
        self.capacity = max(4, int(CACHE_SHARE * store) // self.epoch_bytes)
        """Number of epochs whose masks may be kept."""

    def burst(self, key: EpochKey, last: int) -> list[EpochKey]:
        """Returns the epochs to draw together, from `key` to at most the epoch `last`."""
        count = min(max(1, BURST_BYTES // self.epoch_bytes), self.capacity // 2, last - key.epoch + 1)
        return [key._replace(epoch=key.epoch + number) for number in range(count)]

    def draw(self, keys: Sequence[EpochKey]) -> list[Drawn]:
        """Draws the masks of some epochs.

        Raises:
            ray.exceptions.RayError: a task failed.
        """
        mask_generator = self.mask_generator

        def draw_masks(block: pa.Table) -> pa.Table:
            lower_priority()
            return draw_packed(block["image_id"].to_pylist(), keys, mask_generator)

        tables = dict(enumerate(map_blocks(self.dataset, draw_masks)))
        return [Drawn(key, tables) for key in keys]
