"""Decodes the images of a run once, into blocks in Ray's object store that all epochs, workers and trials share.

FFHQ at 128x128 is 3.4 GB decoded. Ray spills what does not fit in the object store to the nodes' disks and reads it
back, which is still far faster than decoding again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from faceae.data.execution import execute
from faceae.data.reader import FaceSource, column_rows, image_bytes
from faceae.data.rejected import Rejected
from faceae.data.sources import Entry


@dataclass(frozen=True)
class Blocks:
    """Decoded images in the object store.

    Attributes:
        refs: the blocks, in the form that `faceae.data.reader` describes, with the masks that were drawn with them, see
            `faceae.data.epoch_masks`.
        usable: for each block, the rows that hold a usable image.
        source_index: (N,) int32, for every usable image, block by block, its index in the list of entries that were
            to be decoded. So the order does not depend on where the images are stored. None means the blocks' order.
        ids: for each block, the ids of all its rows, from which masks are drawn without the pixels; may be left out
            where no more masks are drawn.
    """

    refs: list[ray.ObjectRef]
    usable: list[NDArray[np.int32]]
    source_index: NDArray[np.int32] | None = None
    ids: pa.ListArray | None = None

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.usable)

    def positions(self) -> NDArray[np.int32]:
        """Returns (N, 2) int32: the block and row of every usable image, block by block."""
        if not self.usable:
            return np.zeros((0, 2), np.int32)
        block = np.repeat(np.arange(len(self.usable), dtype=np.int32), [len(rows) for rows in self.usable])
        return np.stack([block, np.concatenate(self.usable)], axis=1)

    @cached_property
    def source_order(self) -> NDArray[np.int64]:
        """(N,) int64: indices into `positions` that put the images in the order of `source_index`."""
        return np.arange(len(self)) if self.source_index is None else np.argsort(self.source_index)

    def first(self, images: int) -> Blocks:
        """Returns those of the first images that were to be decoded that are usable; blocks with none are left out."""
        index = np.arange(len(self), dtype=np.int32) if self.source_index is None else self.source_index
        ends = np.cumsum([len(rows) for rows in self.usable])[:-1]
        wanted = zip(self.refs, self.usable, np.split(index < images, ends), strict=True)
        kept = [(ref, rows[mine]) for ref, rows, mine in wanted if mine.any()]
        return Blocks([ref for ref, _ in kept], [rows for _, rows in kept], index[index < images])

    def portions(self, images: int) -> list[Blocks]:
        """Returns them in parts of whole blocks, each with at least so many images but for the last one."""
        parts = [Blocks([], [])]
        for ref, rows in zip(self.refs, self.usable, strict=True):
            if len(parts[-1]) >= images:
                parts.append(Blocks([], []))
            parts[-1].refs.append(ref)
            parts[-1].usable.append(rows)
        return parts


Finish = Callable[[pa.Table], pa.Table]
"""Adds columns to a block of decoded images, in the task that decoded them."""


def decode(
    entries: Sequence[Entry], image_size: int, on_images: Callable[[int], None], finish: Finish | None = None
) -> tuple[Blocks, list[Rejected]]:
    """Reads and decodes images, in parallel over the cluster.

    Args:
        entries: the images.
        image_size: side of a decoded image in pixels.
        on_images: called for each finished block, with its number of images.
        finish: applied to each block by the task that decoded it, for example to draw masks.

    Returns:
        The decoded images, and the rejected ones.

    Raises:
        ray.exceptions.RayError: the storage failed while reading.
    """
    source = FaceSource(entries, image_size)
    refs = []
    for ref, rows in execute(source, len(source.units), finish=finish):
        refs.append(ref)
        on_images(rows)
    states = ray.get([_inspect_block.remote(ref) for ref in refs])
    usable = [rows for rows, _ in states]
    rejected = [image for _, bad in states for image in bad]
    index = {entry.image_id: number for number, entry in enumerate(entries)}
    rejected_ids = {image_id for image_id, _ in rejected}
    ids = [[entry.image_id for entry in unit] for unit in source.units]
    read = (image_id for unit in ids for image_id in unit)
    source_index = np.array([index[image_id] for image_id in read if image_id not in rejected_ids], np.int32)
    return Blocks(refs, usable, source_index, pa.array(ids, pa.list_(pa.string()))), rejected


def take(refs: Sequence[ray.ObjectRef], positions: NDArray[np.int32]) -> tuple[list[str], NDArray[np.uint8]]:
    """Gathers images from several blocks.

    Args:
        refs: the blocks.
        positions: (n, 2), the block and row of each image.

    Returns:
        The ids and the pixels of the images, the latter (n, image_size * image_size * 3) uint8, in the order of
        `positions`.
    """
    blocks = ray.get(list(refs))  # blocks on this node are not copied
    ids = np.empty(len(positions), object)
    pixels = np.empty((len(positions), blocks[0]["pixels"].type.byte_width), np.uint8)
    for number, block in enumerate(blocks):
        places = np.flatnonzero(positions[:, 0] == number)
        rows = positions[places, 1]
        ids[places] = block["image_id"].take(rows).to_pylist()
        images = column_rows(block, "pixels")
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            pixels[place] = images[row]
    return ids.tolist(), pixels


def fits(images: int, image_size: int) -> bool:
    """Whether this many decoded images fit in the cluster's object store and leave room for batches in flight."""
    return images * image_bytes(image_size) < 0.7 * ray.cluster_resources().get("object_store_memory", 0)


@ray.remote
def _inspect_block(block: pa.Table) -> tuple[NDArray[np.int32], list[Rejected]]:
    """Returns the usable rows of a block and its rejected images; a task, so that only these reach the driver."""
    reasons = block["reason"].to_pylist()
    ids = block["image_id"].to_pylist()
    usable = np.array([row for row, reason in enumerate(reasons) if reason is None], np.int32)
    return usable, [(i, reason) for i, reason in zip(ids, reasons, strict=True) if reason is not None]
