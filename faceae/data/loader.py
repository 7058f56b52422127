"""Batches for one training worker: Ray Data gathers and masks them on the cluster, epoch after epoch.

Each worker plans its own rows (`faceae.data.sampler`), as *windows* (runs of consecutive steps, one Ray Data task
each), and has them drawn in *bursts*: a Ray Data execution that runs to its end while the burst before it is trained
on, over the borders of epochs. A single long execution would wait for its consumer instead, and Ray's executor waits by
spinning: measured on 2 cores with Ray 2.60, it took half a core and halved the rate of training. A burst has as many
windows as tasks may run at a time, since the executor looks for finished tasks every 0.1 s, unless all of them are.
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
from faceae.data.chunk import Window, WindowSource
from faceae.data.execution import execute
from faceae.data.reader import column_bytes, column_rows, image_bytes
from faceae.data.sampler import Order

BURST_BYTES = 256 * 2**20
"""Images drawn at once for a worker; twice as many are held in the object store."""

HEAD_BYTES = 16 * 2**20
"""Images that a worker draws itself, before there is a burst."""


class Feed:
    """The batches of one training worker, epoch after epoch."""

    def __init__(self, order: Order, rank: int, workers: int, epochs: range, tasks: int, first_step: int = 0) -> None:
        """Prepares a feed; nothing runs before the first epoch is asked for.

        Args:
            order: the same on every worker.
            rank: of this worker.
            workers: all of them.
            epochs: those that may be asked for, in that order.
            tasks: Ray Data tasks that may run for this worker at a time.
            first_step: of the first epoch, of which the steps before it were done in an earlier session.
        """
        self.order, self.rank, self.workers, self.epochs, self.tasks = order, rank, workers, epochs, tasks
        self.first_step = first_step
        self._windows = self._stream(first_step)

    def epoch(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        steps, step = self.order.steps, self.first_step
        self.first_step = 0
        while step < steps:
            window = next(self._windows)
            pixels, bits = column_bytes(window, "pixels"), column_bytes(window, "mask")
            pixels = pixels.reshape(-1, self.order.image_size, self.order.image_size, 3)
            start = 0
            while start < len(pixels):
                global_rows = self.order.global_rows(step)
                end = start + len(range(self.rank, global_rows, self.workers))
                yield Batch(pixels[start:end], bits[start:end], global_rows)
                start, step = end, step + 1

    def close(self) -> None:
        """Stops the stream, wherever it is."""
        self._windows.close()

    def _stream(self, first_step: int) -> Generator[pa.Table, None, None]:
        windows = self._plan(first_step)
        # The first window is drawn here: Ray Data takes seconds to begin, in which the first steps can be trained.
        drawn = deque(window.draw() for window in itertools.islice(windows, 1))
        bursts = iter(lambda: list(itertools.islice(windows, self.tasks)), None)
        with ThreadPoolExecutor(1, "burst") as thread:
            coming = thread.submit(self._draw, next(bursts))
            yield from drawn
            while drawn := coming.result():
                coming = thread.submit(self._draw, next(bursts))
                while drawn:
                    yield drawn.popleft()  # and forgets it, so that its memory is free when the engine has used it

    def _plan(self, first_step: int) -> Iterator[Window]:
        """All windows, from that step of the first epoch on: a small one, then as equal ones as there can be."""
        head = self._steps_of(HEAD_BYTES)
        for epoch in self.epochs:
            batches = self.order.share(epoch, self.rank, self.workers)[first_step:]
            most = self._steps_of(BURST_BYTES // self.tasks)
            pieces = [batches[:head], *_split(batches[head:], most)]
            yield from (Window.of(self.order, epoch, np.concatenate(piece)) for piece in pieces if piece)
            first_step = head = 0

    def _steps_of(self, size: int) -> int:
        """How many steps have so many bytes of images, on this worker."""
        return max(1, size // image_bytes(self.order.image_size) * self.workers // self.order.batch_size)

    def _draw(self, burst: list[Window]) -> deque[pa.Table]:
        if not burst:
            return deque()
        return deque(ray.get([ref for ref, _ in execute(WindowSource(burst), len(burst))]))


def _split(batches: list[NDArray[np.int32]], most: int) -> list[list[NDArray[np.int32]]]:
    """Pieces of nearly the same length, at most `most`."""
    pieces = math.ceil(len(batches) / most)
    return [batches[len(batches) * i // pieces : len(batches) * (i + 1) // pieces] for i in range(pieces)]


def validation(blocks: Blocks, image_size: int, batch_size: int, rank: int = 0, workers: int = 1) -> Iterator[Batch]:
    """One worker's share of the validation images, each of them on exactly one worker, masks as drawn once.

    Args:
        blocks: of `faceae.data.cache.decode_val`.
        image_size: side in pixels.
        batch_size: images a batch.
        rank: of this worker.
        workers: all of them.
    """
    seen = 0
    images: list[NDArray[np.uint8]] = []
    bits: list[NDArray[np.uint8]] = []
    for ref, usable in zip(blocks.refs, blocks.usable, strict=True):
        mine = usable[(rank - seen) % workers :: workers]
        seen += len(usable)
        block = ray.get(ref)
        pixels, masks = column_rows(block, "pixels"), column_rows(block, "mask")
        for row in mine:
            images.append(pixels[row])
            bits.append(masks[row])
            if len(images) == batch_size:
                yield stacked(images, bits, image_size)
                images, bits = [], []
    if images:
        yield stacked(images, bits, image_size)


def stacked(images: list[NDArray[np.uint8]], bits: list[NDArray[np.uint8]], image_size: int) -> Batch:
    """A batch of images and their masks, given one by one."""
    return Batch(np.stack(images).reshape(-1, image_size, image_size, 3), np.stack(bits), len(images))
