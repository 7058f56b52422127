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
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import pixels_array

BURST_BYTES = 64 * 2**20
"""Bytes of masks that an execution draws; more if those of a single epoch take more."""

CACHE_SHARE = 0.1
"""Share of the object store that may hold masks, so that the trials of a grid draw those of an epoch once."""


def columns(block: pa.Table, keys: Sequence[EpochKey], mask_generator: MaskGenerator) -> dict[str, pa.Array]:
    """Draws the masks of a block's images, and which of them are mirrored, for some epochs."""
    ids = block["image_id"].to_pylist()
    drawn: dict[str, pa.Array] = {}
    for key in keys:
        drawn[key.mask_column] = pixels_array(mask_generator.draw(ids, key.seed, key.epoch))
        if key.mirror:
            drawn[key.mirror_column] = pixels_array(_mirrored(ids, key)[:, None])
    return drawn


def _mirrored(ids: Sequence[str], key: EpochKey) -> NDArray[np.uint8]:
    return (masks.uniform(ids, seed=key.seed, epoch=key.epoch, count=5)[:, 0] < 0.5).astype(np.uint8)


def draw_with_pixels(key: EpochKey, mask_generator: MaskGenerator) -> Finish:
    """Returns a function that adds an epoch's masks to a block: those of the first are drawn as images are decoded."""

    def draw_first_masks(block: pa.Table) -> pa.Table:
        for name, column in columns(block, [key], mask_generator).items():
            block = block.append_column(name, column)
        return block

    return draw_first_masks


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
            return pa.table(columns(block, keys, mask_generator))

        tables = dict(enumerate(map_blocks(self.dataset, draw_masks)))
        return [Drawn(key, tables) for key in keys]
