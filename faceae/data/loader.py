"""The batch loader of a training worker: a thread beside it puts its batches together, from memory on its own node.

The pixels stay in the blocks in which they were decoded, in the object store of the node that is home to them (see
`faceae.data.sampler`), and are copied once, into a batch. The masks of an epoch are drawn by Ray Data before it begins
(`faceae.data.epoch_masks`). Where a run has several nodes, what a rank needs from another node's blocks is sent to it
by a rank of that node, as rows. The thread works some *chunks* (of some steps each) ahead.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from faceae.data.batch import Batch
from faceae.data.epoch import Drawn, EpochKey
from faceae.data.epoch_masks import MaskRows
from faceae.data.mapped import Mapped, Recent, node_cache
from faceae.data.reader import image_bytes
from faceae.data.sampler import POOL_BYTES, GlobalBatchSampler, assign

CHUNK_BYTES = 8 * 2**20
"""Size of a chunk, in bytes of decoded images of one rank: small enough to stay in the processor's cache until it is
used, which halves the cost of copying."""

CHUNKS_AHEAD = 1
"""Number of chunks that are prepared before they are needed."""


class Exchange(Protocol):
    """Sends rows to the other ranks and receives theirs; all ranks call it together, again and again."""

    def __call__(self, rows: NDArray[np.uint8], sent: list[int], received: list[int]) -> NDArray[np.uint8]:
        """Exchanges rows.

        Args:
            rows: (sum of `sent`, width), the rows for rank 0, those for rank 1, and so on.
            sent: number of rows for each rank.
            received: number of rows from each rank.

        Returns:
            (sum of `received`, width), the rows from rank 0, those from rank 1, and so on.
        """


class Ranks(NamedTuple):
    """The ranks that share a run's images.

    Attributes:
        rank: this process's.
        nodes: for each rank, the node on which it runs.
        exchange: sends rows between the ranks; not needed if all are on one node.
    """

    rank: int = 0
    nodes: tuple[str, ...] = ("",)
    exchange: Exchange | None = None


class _Chunk(NamedTuple):
    """Consecutive steps of an epoch: the images of their global batches, their homes, and the ranks they go to."""

    epoch: int
    numbers: NDArray[np.int64]
    homes: NDArray[np.int64]
    ranks: NDArray[np.int64]


class Buffers:
    """Arrays for chunks, each used again once nothing refers to it any more.

    Memory from the system costs a page fault every 4 kB, more than the copy that follows; and an array that was just
    read is still in the processor's cache.
    """

    def __init__(self, rows: int, width: int) -> None:
        """Creates the first array; each has `rows` rows of `width` bytes."""
        self._shape = rows, width
        self._arrays = [np.empty(self._shape, np.uint8)]
        (self._free,) = self._references()

    def take(self, rows: int) -> NDArray[np.uint8]:
        """Returns (rows, width) uint8 with arbitrary content."""
        for number, references in enumerate(self._references()):
            if references == self._free:
                return self._arrays[number][:rows]
        self._arrays.append(np.empty(self._shape, np.uint8))
        return self._arrays[-1][:rows]

    def _references(self) -> list[int]:
        """Returns how many references there are to each array; how many there are to a free one, Python decides."""
        return [sys.getrefcount(array) for array in self._arrays]


class BatchLoader:
    """The batches of one rank, epoch after epoch."""

    def __init__(
        self,
        sampler: GlobalBatchSampler,
        epochs: range,
        masks: Callable[[EpochKey, Sequence[int]], Drawn],
        ranks: Ranks | None = None,
        mapped: Mapped | None = None,
        first_step: int = 0,
        resident: bool = False,
    ) -> None:
        """Sets up the loader; it prepares nothing until the first batch is requested.

        Args:
            sampler: the order of the images, the same on every rank.
            epochs: numbers of the epochs, in the order in which `epoch` yields them.
            masks: returns the masks of some blocks in an epoch, and waits for them if necessary.
            ranks: the ranks that share the images; by default this process is alone.
            mapped: the blocks in this process's memory; by default the loader has its own.
            first_step: step at which the first epoch begins; an earlier session did the steps before it.
            resident: whether the device keeps all images that it was given once, so that they need not be copied again;
                for a single rank only.
        """
        self.sampler, self.epochs, self.masks, self.first_step = sampler, epochs, masks, first_step
        self.rank, nodes, self.exchange = ranks or Ranks()
        self.world_size = len(nodes)
        self.mapped = mapped or node_cache(nodes.count(nodes[self.rank]))
        self._near = np.array(nodes) == nodes[self.rank]
        self._positions = sampler.blocks.positions()
        homes = sampler.homes(np.arange(len(self._positions)), self.world_size)
        self._near_blocks = np.unique(self._positions[self._near[homes], 0]).tolist()
        self._drawn: Drawn | None = None
        self._unpacked: Recent[tuple[EpochKey, int], MaskRows] = Recent(POOL_BYTES // 20)  # those of a pool
        self._pixel_bytes = image_bytes(sampler.image_size)
        self._mask_width = sampler.task.row_bytes + sampler.mirror
        self._width = self._pixel_bytes + self._mask_width
        self._steps = max(1, CHUNK_BYTES * self.world_size // (sampler.batch_size * self._pixel_bytes))
        self._buffers = Buffers(self._steps * -(-sampler.batch_size // self.world_size), self._width)
        self._kept = np.zeros(len(self._positions), np.bool_) if resident else None
        self._failed = False
        self._chunks = self._stream(first_step)

    def epoch(self) -> Iterator[Batch]:
        """Yields this rank's batches of the next epoch."""
        left = self.sampler.steps - self.first_step
        self.first_step = 0
        while left > 0:
            batches = next(self._chunks)
            left -= len(batches)
            yield from batches

    def close(self) -> None:
        """Stops preparing batches; may be called at any time, if all ranks do so at the same step."""
        self._chunks.close()

    def _stream(self, first_step: int) -> Generator[list[Batch], None, None]:
        plan = self._plan(first_step)
        # A chunk is ordered when one before it is taken. So all ranks that stop at the same step have ordered the same
        # chunks, and none waits in vain for another's rows.
        with ThreadPoolExecutor(1, "batches") as thread:
            coming = deque(thread.submit(self._next, plan) for _ in range(CHUNKS_AHEAD))
            while batches := coming.popleft().result():
                coming.append(thread.submit(self._next, plan))
                yield batches

    def _next(self, plan: Iterator[_Chunk]) -> list[Batch]:
        """Puts together this rank's batches of the next chunk; there are none after the last."""
        if self._failed:  # the other ranks are still at the chunk that failed: they must not get the rows of this one
            return []
        self._failed = True
        chunk = next(plan, None)
        batches = self._prepare(chunk) if chunk else []
        self._failed = False
        return batches

    def _plan(self, first_step: int) -> Iterator[_Chunk]:
        sampler, size = self.sampler, self.sampler.batch_size
        for epoch in self.epochs:
            order = sampler.permutation(epoch)
            for start in range(first_step, sampler.steps, self._steps):
                numbers = order[start * size : min(start + self._steps, sampler.steps) * size]
                homes = sampler.homes(numbers, self.world_size)
                yield _Chunk(epoch, numbers, homes, self._share_out(homes))
            first_step = 0

    def _share_out(self, homes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the ranks that get the images of some global batches, of which the last may be smaller."""
        size = self.sampler.batch_size
        full = len(homes) // size * size
        last = assign(homes[None, full:], self.world_size)[0]
        return np.concatenate([assign(homes[:full].reshape(-1, size), self.world_size).ravel(), last])

    def _prepare(self, chunk: _Chunk) -> list[Batch]:
        sampler = self.sampler
        key = EpochKey(sampler.seed, chunk.epoch, sampler.mirror)
        if self._drawn is None or self._drawn.key != key:
            self._drawn = self.masks(key, self._near_blocks)
        mine = np.flatnonzero(chunk.ranks == self.rank)
        near = self._near[chunk.homes[mine]]
        array = self._buffers.take(len(mine))
        if self._kept is not None and self._kept[chunk.numbers].all():
            array = array[:, self._pixel_bytes :]  # the masks are enough
        rows = list(array)
        self._copy(chunk.numbers[mine[near]], [rows[place] for place in np.flatnonzero(near)])
        if self.exchange:
            far = np.flatnonzero(~near)
            wanted = chunk.homes[mine[far]]
            by_home = far[np.argsort(wanted, kind="stable")]
            for place, row in zip(by_home, self._exchange(chunk, wanted), strict=True):
                rows[place][...] = row
        ends = np.cumsum(np.bincount(mine // sampler.batch_size))
        batches = [
            self._batch(part, min(len(chunk.numbers) - step * sampler.batch_size, sampler.batch_size))
            for step, part in enumerate(np.split(array, ends[:-1]))
        ]
        if self._kept is None:
            return batches
        self._kept[chunk.numbers] = True
        parts = np.split(chunk.numbers, ends[:-1])
        return [batch._replace(numbers=part) for batch, part in zip(batches, parts, strict=True)]

    def _batch(self, rows: NDArray[np.uint8], global_rows: int) -> Batch:
        """Returns rows as a batch; their last bytes are the mask's, what comes before are pixels."""
        side, (pixels, masks) = self.sampler.image_size, np.split(rows, [-self._mask_width], axis=1)
        mirrored = masks[:, -1].astype(bool) if self.sampler.mirror else None
        drawn = masks[:, : self.sampler.task.row_bytes]
        return Batch(pixels.reshape(-1, side, side, 3), drawn, global_rows, mirrored, damage=self.sampler.task.damage)

    def _exchange(self, chunk: _Chunk, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Sends what other nodes' ranks need from this rank's home; returns what this rank needs from other nodes."""
        assert self.exchange
        away = np.flatnonzero((chunk.homes == self.rank) & ~self._near[chunk.ranks])
        away = away[np.argsort(chunk.ranks[away], kind="stable")]
        rows = np.empty((len(away), self._width), np.uint8)
        self._copy(chunk.numbers[away], list(rows))
        sent, received = (np.bincount(ranks, minlength=self.world_size) for ranks in (chunk.ranks[away], wanted))
        return self.exchange(rows, sent.tolist(), received.tolist())

    def _copy(self, numbers: NDArray[np.int64], rows: list[NDArray[np.uint8]]) -> None:
        """Copies images of this node's homes, their masks and mirroring to rows; only the latter if rows are short."""
        needed, which = np.unique(self._positions[numbers, 0], return_inverse=True)
        masks = [drawn.rows for drawn in self._masks(needed.tolist())]
        places = list(zip(which.tolist(), self._positions[numbers, 1].tolist(), strict=True))
        for target, (block, row) in zip(rows, places, strict=True):
            target[-self._mask_width :] = masks[block][row]
        if rows and len(rows[0]) == self._width:
            images = self.mapped.get([self.sampler.blocks.refs[block] for block in needed])
            pixels = [table.rows("pixels") for table in images]
            for target, (block, row) in zip(rows, places, strict=True):
                target[: self._pixel_bytes] = pixels[block][row]

    def _masks(self, blocks: list[int]) -> list[MaskRows]:
        """Returns the masks of some blocks in the current epoch, row by row."""
        assert self._drawn
        key, tables = self._drawn

        def unpack(missing: list[tuple[EpochKey, int]]) -> list[MaskRows]:
            drawn = self.mapped.get([tables[block] for _, block in missing])
            width = self._mask_width
            return [MaskRows(table, block, key, width) for table, (_, block) in zip(drawn, missing, strict=True)]

        return self._unpacked.get([(key, block) for block in blocks], unpack)
