"""The batch loader of a training worker: Ray Data gathers and masks its batches on the cluster, epoch after epoch.

Each rank divides its own share of the images (`faceae.data.sampler`) into *chunks* (consecutive steps, one Ray Data
task each) and has them prepared in *bursts*. A burst is one Ray Data execution, which runs to its end while training
uses the burst before it; bursts may cross epochs. A single long execution would have to wait for its consumer, and
Ray's executor waits by spinning: with Ray 2.60 on 2 cores it took half a core and halved the rate of training. A burst
has as many chunks as tasks may run at the same time, because the executor notices finished tasks with a delay unless
all of them have finished.
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
"""Size of a burst, in bytes of decoded images; the object store holds up to two bursts for each rank."""

HEAD_BYTES = 16 * 2**20
"""Size of the first chunk, in bytes of decoded images; the rank draws it itself, before the first burst is ready."""


class BatchLoader:
    """The batches of one rank, epoch after epoch."""

    def __init__(
        self, sampler: GlobalBatchSampler, rank: int, world_size: int, epochs: range, tasks: int, first_step: int = 0
    ) -> None:
        """Sets up the loader; it prepares nothing until the first batch is requested.

        Args:
            sampler: the order of the images, the same on every rank.
            rank: rank of this training worker.
            world_size: number of training workers.
            epochs: numbers of the epochs, in the order in which `epoch` yields them.
            tasks: number of Ray Data tasks that may run for this rank at the same time.
            first_step: step at which the first epoch begins; an earlier session did the steps before it.
        """
        self.sampler, self.rank, self.world_size, self.epochs, self.tasks = sampler, rank, world_size, epochs, tasks
        self.first_step = first_step
        self._chunks = self._stream(first_step)

    def epoch(self) -> Iterator[Batch]:
        """Yields this rank's batches of the next epoch."""
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
        """Stops preparing batches; may be called at any time."""
        self._chunks.close()

    def _stream(self, first_step: int) -> Generator[pa.Table, None, None]:
        chunks = self._plan(first_step)
        # This process draws the first chunk: training can start on it during the seconds that Ray Data takes to start.
        ready = deque(chunk.draw() for chunk in itertools.islice(chunks, 1))
        bursts = iter(lambda: list(itertools.islice(chunks, self.tasks)), None)
        with ThreadPoolExecutor(1, "burst") as thread:
            coming = thread.submit(self._prepare, next(bursts))
            yield from ready
            while ready := coming.result():
                coming = thread.submit(self._prepare, next(bursts))
                while ready:
                    yield ready.popleft()  # keeps no reference, so that its memory is freed after use

    def _plan(self, first_step: int) -> Iterator[Chunk]:
        """Yields all chunks from a step of the first epoch on: a small one, then per epoch chunks of similar length."""
        head = self._steps_in(HEAD_BYTES)
        for epoch in self.epochs:
            batches = self.sampler.batches(epoch, self.rank, self.world_size)[first_step:]
            max_steps = self._steps_in(BURST_BYTES // self.tasks)
            pieces = [batches[:head], *_split(batches[head:], max_steps)]
            yield from (Chunk.of(self.sampler, epoch, np.concatenate(piece)) for piece in pieces if piece)
            first_step = head = 0

    def _steps_in(self, size: int) -> int:
        """Returns the number of steps in which this rank uses `size` bytes of images, at least 1."""
        return max(1, size // image_bytes(self.sampler.image_size) * self.world_size // self.sampler.batch_size)

    def _prepare(self, burst: list[Chunk]) -> deque[pa.Table]:
        if not burst:
            return deque()
        return deque(ray.get([ref for ref, _ in execute(ChunkSource(burst), len(burst))]))


def _split(batches: list[NDArray[np.int32]], max_steps: int) -> list[list[NDArray[np.int32]]]:
    """Divides batches into pieces of nearly equal length, at most `max_steps` batches each."""
    pieces = math.ceil(len(batches) / max_steps)
    return [batches[len(batches) * i // pieces : len(batches) * (i + 1) // pieces] for i in range(pieces)]


def validation_batches(
    blocks: Blocks, image_size: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Yields one rank's share of the validation images, whose masks never change; each image is on exactly one rank.

    Args:
        blocks: the validation images, from `faceae.data.cache.decode_val`.
        image_size: side of an image in pixels.
        batch_size: maximum number of images in a batch of this rank.
        rank: rank of this training worker.
        world_size: number of training workers.
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
    """Returns a batch of images, each (image_size * image_size * 3,) uint8, and their packed masks."""
    return Batch(np.stack(images).reshape(-1, image_size, image_size, 3), np.stack(bits), len(images))
