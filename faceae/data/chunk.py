"""Runs of steps, drawn from the decoded images by Ray Data: a task each."""

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
from faceae.data.execution import give_way
from faceae.data.mask_generator import Holes
from faceae.data.reader import image_bytes, pixels_array
from faceae.data.sampler import Order


@dataclass(frozen=True)
class Window:
    """The images of some consecutive steps of one worker, and what is hidden in them.

    Attributes:
        refs: the blocks that they are in.
        positions: (n, 2), for each image the index of its block in `refs`, and its row there.
        holes: what is hidden.
        seed, epoch: of `faceae.corruption.masks.draw`.
        mirror: whether half of the images are mirrored.
    """

    refs: list[ray.ObjectRef]
    positions: NDArray[np.int32]
    holes: Holes
    seed: int
    epoch: int
    mirror: bool

    @staticmethod
    def of(order: Order, epoch: int, positions: NDArray[np.int32]) -> Window:
        """Of images whose blocks are numbered as those of an order."""
        needed, which = np.unique(positions[:, 0], return_inverse=True)
        refs = [order.blocks.refs[block] for block in needed]
        rows = np.stack([which, positions[:, 1]], axis=1)
        return Window(refs, rows, order.holes, order.seed, epoch, order.mirror)

    def draw(self) -> pa.Table:
        """Gathers the images and draws their holes; runs on the Ray Data workers.

        Returns:
            A table of `image_id`, `pixels` and `mask` (see `faceae.corruption.masks.pack`), in the same order.
        """
        ids, pixels = take(self.refs, self.positions)
        if self.mirror:
            self._mirror_half(ids, pixels)
        drawn = self.holes.draw(ids, self.seed, self.epoch)
        return pa.table({"image_id": ids, "pixels": pixels_array(pixels), "mask": pixels_array(drawn)})

    def _mirror_half(self, ids: list[str], pixels: NDArray[np.uint8]) -> None:
        images = pixels.reshape(-1, self.holes.image_size, self.holes.image_size, 3)
        mirrored = masks.uniform(ids, seed=self.seed, epoch=self.epoch, count=5)[:, 0] < 0.5
        for number in np.flatnonzero(mirrored):
            images[number] = images[number, :, ::-1]


class WindowSource(Datasource):
    """Windows to be drawn, a task each."""

    def __init__(self, windows: list[Window]) -> None:
        self.windows = windows

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all windows together."""
        return sum(self._bytes(window) for window in self.windows)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """One task a window."""
        return [ReadTask(partial(_drawn, window), self._metadata(window)) for window in self.windows]

    def _metadata(self, window: Window) -> BlockMetadata:
        return BlockMetadata(
            num_rows=len(window.positions), size_bytes=self._bytes(window), input_files=None, exec_stats=None
        )

    @staticmethod
    def _bytes(window: Window) -> int:
        return len(window.positions) * image_bytes(window.holes.image_size) * 25 // 24  # with a bit a pixel of mask


def _drawn(window: Window) -> list[pa.Table]:
    give_way()
    return [window.draw()]
