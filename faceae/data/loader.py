"""The batch loader of a training worker: Ray Data gathers and masks its batches on the cluster, epoch after epoch.

Each rank plans its own rows (`faceae.data.sampler`) as *chunks* (consecutive steps, one Ray Data task each), and has
them prepared in *bursts*: Ray Data executions that run to their end while the burst before them is trained on, across
epochs. A single long execution would wait for its consumer instead, and Ray's executor waits by spinning: measured on 2
cores with Ray 2.60, it took half a core and halved the rate of training. A burst has as many chunks as tasks may run at
a time: the executor looks for finished tasks only now and then, unless all of them are.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from faceae.data.batch import Batch
from faceae.data.cache import Blocks
from faceae.data.chunk import Chunk, ChunkSource
from faceae.data.execution import execute
from faceae.data.reader import column_bytes, column_rows, image_bytes
from faceae.data.sampler import GlobalBatchSampler

BURST_BYTES = 256 * 2**20
"""Images prepared at once for one rank; twice as many are held in the object store."""

HEAD_BYTES = 16 * 2**20
"""Images that a rank prepares itself, before there is a burst."""


class BatchLoader:
    """The batches of one rank, epoch after epoch."""

    def __init__(
        self, sampler: GlobalBatchSampler, rank: int, world_size: int, epochs: range, tasks: int, first_step: int = 0
    ) -> None:
        """Prepares the loader; nothing runs before the first epoch is asked for.

        Args:
            sampler: the same on every rank.
            rank: this training worker.
            world_size: how many training workers there are.
            epochs: the epochs that may be asked for, in that order.
            tasks: how many Ray Data tasks may run for this rank at a time.
            first_step: where the first epoch begins; the steps before it were done in an earlier session.
        """
        self.sampler, self.rank, self.world_size, self.epochs, self.tasks = sampler, rank, world_size, epochs, tasks
        self.first_step = first_step
        self._chunks = self._stream(first_step)

    def epoch(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        steps, step = self.sampler.steps, self.first_step
        self.first_step = 0
        while step < steps:
            chunk = next(self._chunks)
            pixels, bits = column_bytes(chunk, "pixels"), column_bytes(chunk, "mask")
            pixels = pixels.reshape(-1, self.sampler.image_size, self.sampler.image_size, 3)
            start = 0
            while start < len(pixels):
                global_rows = self.sampler.global_rows(step)
                end = start + len(range(self.rank, global_rows, self.world_size))
                yield Batch(pixels[start:end], bits[start:end], global_rows)
                start, step = end, step + 1

    def close(self) -> None:
        """Stops the stream, wherever it is."""
        self._chunks.close()

    def _stream(self, first_step: int) -> Generator[pa.Table, None, None]:
        planned = self._plan(first_step)
        # The first chunk is prepared here: Ray Data takes seconds to begin, in which the first steps can be trained.
        ready = deque(chunk.draw() for chunk in itertools.islice(planned, 1))
        bursts = iter(lambda: list(itertools.islice(planned, self.tasks)), None)
        with ThreadPoolExecutor(1, "burst") as thread:
            coming = thread.submit(self._prepare, next(bursts))
            yield from ready
            while ready := coming.result():
                coming = thread.submit(self._prepare, next(bursts))
                while ready:
                    yield ready.popleft()  # and forgets it: its memory is free once the engine has used it

    def _plan(self, first_step: int) -> Iterator[Chunk]:
        """All chunks from a step of the first epoch on: a small one, then chunks of nearly equal length."""
        head = self._steps_of(HEAD_BYTES)
        for epoch in self.epochs:
            batches = self.sampler.batches(epoch, self.rank, self.world_size)[first_step:]
            most = self._steps_of(BURST_BYTES // self.tasks)
            pieces = [batches[:head], *_split(batches[head:], most)]
            yield from (Chunk.of(self.sampler, epoch, np.concatenate(piece)) for piece in pieces if piece)
            first_step = head = 0

    def _steps_of(self, size: int) -> int:
        """How many steps hold this many bytes of images, on this rank."""
        return max(1, size // image_bytes(self.sampler.image_size) * self.world_size // self.sampler.batch_size)

    def _prepare(self, burst: list[Chunk]) -> deque[pa.Table]:
        if not burst:
            return deque()
        return deque(ray.get([ref for ref, _ in execute(ChunkSource(burst), len(burst))]))


def _split(batches: list[NDArray[np.int32]], most: int) -> list[list[NDArray[np.int32]]]:
    """Pieces of nearly equal length, at most `most` batches each."""
    pieces = math.ceil(len(batches) / most)
    return [batches[len(batches) * i // pieces : len(batches) * (i + 1) // pieces] for i in range(pieces)]


def validation_batches(
    blocks: Blocks, image_size: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """One rank's share of the validation images: each image is on exactly one rank, with masks that never change.

    Args:
        blocks: what `faceae.data.cache.decode_val` returned.
        image_size: side in pixels.
        batch_size: images a batch.
        rank: this training worker.
        world_size: how many training workers there are.
    """
    seen = 0
    images: list[NDArray[np.uint8]] = []
    bits: list[NDArray[np.uint8]] = []
    for ref, usable in zip(blocks.refs, blocks.usable, strict=True):
        mine = usable[(rank - seen) % world_size :: world_size]
        seen += len(usable)
        block = ray.get(ref)
        pixels, masks = column_rows(block, "pixels"), column_rows(block, "mask")
        for row in mine:
            images.append(pixels[row])
            bits.append(masks[row])
            if len(images) == batch_size:
                yield stack_batch(images, bits, image_size)
                images, bits = [], []
    if images:
        yield stack_batch(images, bits, image_size)


def stack_batch(images: list[NDArray[np.uint8]], bits: list[NDArray[np.uint8]], image_size: int) -> Batch:
    """A batch of separate images and their masks."""
    return Batch(np.stack(images).reshape(-1, image_size, image_size, 3), np.stack(bits), len(images))
