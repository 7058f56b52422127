"""Chunks of consecutive steps of one rank; one Ray Data task gathers the images of a chunk and draws their masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from faceae.corruption import masks
from faceae.data.cache import take
from faceae.data.execution import lower_priority
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import image_bytes, pixels_array
from faceae.data.sampler import GlobalBatchSampler


@dataclass(frozen=True)
class Chunk:
    """The images of consecutive steps of one rank, and how their masks are drawn.

    Attributes:
        refs: the blocks that hold the images.
        positions: (n, 2), for each image the index of its block in `refs`, and its row in that block.
        mask_generator: draws the masks.
        seed, epoch: the numbers that masks and mirroring depend on, together with the image ids.
        mirror: whether half of the images are mirrored, chosen at random.
    """

    refs: list[ray.ObjectRef]
    positions: NDArray[np.int32]
    mask_generator: MaskGenerator
    seed: int
    epoch: int
    mirror: bool

    @staticmethod
    def of(sampler: GlobalBatchSampler, epoch: int, positions: NDArray[np.int32]) -> Chunk:
        """Makes a chunk of a sampler's images; `positions` is (n, 2), block (of all the sampler's blocks) and row."""
        needed, block_index = np.unique(positions[:, 0], return_inverse=True)
        refs = [sampler.blocks.refs[block] for block in needed]
        rows = np.stack([block_index, positions[:, 1]], axis=1)
        return Chunk(refs, rows, sampler.mask_generator, sampler.seed, epoch, sampler.mirror)

    def draw(self) -> pa.Table:
        """Gathers the images and draws their masks; runs on the Ray Data workers.

        Returns:
            A table of `image_id`, `pixels` and `mask` (see `faceae.corruption.masks.pack`), in the order of
            `positions`.
        """
        ids, pixels = take(self.refs, self.positions)
        if self.mirror:
            self._mirror_half(ids, pixels)
        drawn = self.mask_generator.draw(ids, self.seed, self.epoch)
        return pa.table({"image_id": ids, "pixels": pixels_array(pixels), "mask": pixels_array(drawn)})

    def _mirror_half(self, ids: list[str], pixels: NDArray[np.uint8]) -> None:
        images = pixels.reshape(-1, self.mask_generator.image_size, self.mask_generator.image_size, 3)
        mirrored = masks.uniform(ids, seed=self.seed, epoch=self.epoch, count=5)[:, 0] < 0.5
        for number in np.flatnonzero(mirrored):
            images[number] = images[number, :, ::-1]


class ChunkSource(Datasource):
    """Draws chunks, one read task per chunk."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self.chunks = chunks

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all chunks together."""
        return sum(self._bytes(chunk) for chunk in self.chunks)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """Returns one task per chunk, whatever the parallelism."""
        return [ReadTask(partial(_draw_chunk, chunk), self._metadata(chunk)) for chunk in self.chunks]

    def _metadata(self, chunk: Chunk) -> BlockMetadata:
        return BlockMetadata(
            num_rows=len(chunk.positions), size_bytes=self._bytes(chunk), input_files=None, exec_stats=None
        )

    @staticmethod
    def _bytes(chunk: Chunk) -> int:
        image = image_bytes(chunk.mask_generator.image_size)
        return len(chunk.positions) * image * 25 // 24  # the mask adds 1 bit to a pixel's 24


def _draw_chunk(chunk: Chunk) -> list[pa.Table]:
    lower_priority()
    return [chunk.draw()]
