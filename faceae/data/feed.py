"""Batches for one training worker: Ray Data gathers, shuffles and masks them on the cluster, epoch after epoch.

The order of an epoch is a function of the seed, the epoch and the images, not of the workers: global batch k is
the same images at any worker count, and worker r takes every r-th of them. A run therefore resumes, on as many
workers as there are by then, to what it would have been. Ray's own streaming_split promises neither that nor the
last rows of an epoch (ray#63285), and a map after it cannot know the epoch.

So each worker plans its own rows, as *windows* (runs of consecutive steps, one Ray Data task each), and has them
drawn in *bursts*: a Ray Data execution that runs to its end while the burst before it is trained on, across the
borders of epochs. A single long execution would wait for its consumer instead, and Ray's executor waits by spinning:
measured on 2 cores with Ray 2.60, it took half a core and halved the rate of training.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import TaskPoolStrategy

from faceae import masks
from faceae.data.batch import Batch
from faceae.data.cache import Blocks, take
from faceae.data.reader import column_bytes, column_rows, image_bytes, pixels_array

POOL_BYTES = 512 * 2**20
"""Images are shuffled within pools of so many bytes (10,900 images at 128x128) of blocks that are drawn anew each
epoch: as good as a full shuffle for batches, while a node holds a pool at a time, not the data set."""

WINDOW_BYTES = 16 * 2**20
"""Aimed size of a window: large enough to make the cost of a task small, small enough to flow."""


BURST_WINDOWS = 16
"""Windows drawn at once; twice as many (512 MB) are held in the object store for each worker."""


@dataclass(frozen=True)
class Order:
    """What decides which image comes when, and what is hidden in it.

    Attributes:
        blocks: the images.
        seed: of the run.
        batch_size: images of a global batch.
        image_size: side in pixels.
        box_size: side of the hole in pixels.
        most_workers: that may ever share the images; the last global batch of an epoch is left out if it has fewer.
    """

    blocks: Blocks
    seed: int
    batch_size: int
    image_size: int
    box_size: int
    most_workers: int = 1

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        full, rest = divmod(len(self.blocks), self.batch_size)
        return full + (rest >= self.most_workers)

    @property
    def images(self) -> int:
        """Images of an epoch."""
        return min(self.steps * self.batch_size, len(self.blocks))

    def global_rows(self, step: int) -> int:
        """Images of the global batch of a step, over all workers."""
        return min(self.batch_size, len(self.blocks) - step * self.batch_size)

    def epoch(self, epoch: int) -> NDArray[np.int32]:
        """(N, 2): block and row of every usable image, in the order of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        positions = self.blocks.positions()
        shuffled = rng.permutation(len(positions))  # first: it must not depend on how many blocks there are
        counts = np.array([len(rows) for rows in self.blocks.usable])
        blocks = rng.permutation(len(counts))
        pool = np.cumsum(counts[blocks]) * image_bytes(self.image_size) // POOL_BYTES
        pool_of_block = np.empty_like(blocks)
        pool_of_block[blocks] = pool
        return positions[shuffled[np.argsort(pool_of_block[positions[shuffled, 0]], kind="stable")]]

    def share(self, epoch: int, rank: int, workers: int) -> list[NDArray[np.int32]]:
        """For each step of an epoch, (n, 2): block and row of one worker's images."""
        order = self.epoch(epoch)
        starts = range(0, self.steps * self.batch_size, self.batch_size)
        return [order[start : start + self.batch_size][rank::workers] for start in starts]


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
        rows = max(1, WINDOW_BYTES // image_bytes(order.image_size))
        self.window_steps = max(1, rows * workers // order.batch_size)
        self._windows = self._stream(first_step)

    def epoch(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        steps, begin = self.order.steps, self.first_step
        self.first_step = 0
        for first in range(begin, steps, self.window_steps):
            window = next(self._windows)
            pixels, bits = column_bytes(window, "pixels"), column_bytes(window, "mask")
            pixels = pixels.reshape(-1, self.order.image_size, self.order.image_size, 3)
            start = 0
            for step in range(first, min(first + self.window_steps, steps)):
                global_rows = self.order.global_rows(step)
                end = start + len(range(self.rank, global_rows, self.workers))
                yield Batch(pixels[start:end], bits[start:end], global_rows)
                start = end

    def close(self) -> None:
        """Stops the stream, wherever it is."""
        self._windows.close()

    def _stream(self, first_step: int) -> Generator[pa.Table, None, None]:
        first_steps = itertools.chain([first_step], itertools.repeat(0))
        windows = (window for plan in map(self._plan, self.epochs, first_steps) for window in plan)
        sizes = itertools.chain(
            [1], itertools.repeat(BURST_WINDOWS)
        )  # the first step should not wait for a whole burst
        bursts = (list(itertools.islice(windows, size)) for size in sizes)
        with ThreadPoolExecutor(1, "burst") as thread:
            coming = thread.submit(self._draw, next(bursts))
            while drawn := coming.result():
                coming = thread.submit(self._draw, next(bursts))
                while drawn:
                    yield drawn.popleft()  # and forgets it, so that its memory is free when the engine has used it

    def _plan(self, epoch: int, first_step: int) -> Iterator[pa.Table]:
        """The windows of an epoch: a table each, with the place of every image in it."""
        batches = self.order.share(epoch, self.rank, self.workers)
        for first in range(first_step, len(batches), self.window_steps):
            positions = np.concatenate(batches[first : first + self.window_steps])
            epochs = np.full(len(positions), epoch)
            yield pa.table({"epoch": epochs, "block": positions[:, 0], "row": positions[:, 1]})

    def _draw(self, burst: list[pa.Table]) -> deque[pa.Table]:
        if not burst:
            return deque()
        dataset = ray.data.from_arrow(burst).map_batches(
            draw_window,
            fn_args=(self.order,),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=TaskPoolStrategy(min(self.tasks, len(burst))),
        )
        context = dataset.context
        context.enable_progress_bars = False
        context.target_max_block_size = None  # a window comes out in one piece
        context.execution_options.preserve_order = True
        return deque(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=len(burst)))


def draw_window(window: pa.Table, order: Order) -> pa.Table:
    """Gathers the images of a window and draws their holes; runs on the Ray Data workers.

    Args:
        window: `epoch`, `block` and `row` of each image.
        order: of the run.

    Returns:
        A table of `image_id`, `pixels` and `mask` (see `faceae.masks.pack`), in the same order.
    """
    positions = np.stack([window["block"].to_numpy(), window["row"].to_numpy()], axis=1)
    ids, pixels = take(order.blocks.refs, positions)
    drawn = masks.draw(
        ids,
        seed=order.seed,
        epoch=window["epoch"][0].as_py(),
        image_size=order.image_size,
        box_size=order.box_size,
    )
    return pa.table({"image_id": ids, "pixels": pixels_array(pixels), "mask": pixels_array(masks.pack(drawn))})


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
    for ref, usable in zip(blocks.refs, blocks.usable, strict=True):
        mine = usable[(rank - seen) % workers :: workers]
        seen += len(usable)
        block = ray.get(ref)
        pixels, bits = column_rows(block, "pixels"), column_rows(block, "mask")
        for start in range(0, len(mine), batch_size):
            rows = mine[start : start + batch_size]
            images = np.stack([pixels[row] for row in rows]).reshape(-1, image_size, image_size, 3)
            yield Batch(images, np.stack([bits[row] for row in rows]), len(rows))
