"""The order of the images: which ones make up each global batch, and which rank trains on each of them.

The order of an epoch depends on the seed, the epoch and the images, but not on the workers: global batch k holds the
same images for every world size. So a run that resumes on another number of workers continues as if it had not stopped.
Ray's own streaming_split guarantees neither this nor the last rows of an epoch (ray#63285), and a map after it cannot
know the epoch.

Within a global batch the images go to the ranks by their *home*: rank r of n is home to the r-th n-th of all images, in
the order of the blocks, so that each rank reads the same few blocks in every epoch. All ranks get equally many images;
what a rank has too many of goes to those that have too few. Homes depend on the number of ranks only, not on where the
blocks happen to lie: two runs with the same seed and the same number of workers agree to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceae.data.cache import Blocks
from faceae.data.reader import image_bytes
from faceae.tasks.base import Task

POOL_BYTES = 512 * 2**20
"""Size of the pools within which images are shuffled (10,900 images at 128x128). Each epoch assigns the blocks to pools
anew. For batches this is as good as a full shuffle, and a node holds one pool at a time instead of the whole set."""


@dataclass(frozen=True)
class GlobalBatchSampler:
    """Decides which images make up each global batch, and how they are masked and mirrored.

    Attributes:
        blocks: the decoded images.
        seed: the run's seed.
        batch_size: number of images in a global batch.
        task: what is drawn for the images.
        mirror: whether each image is mirrored in half of the epochs, chosen at random.
        max_workers: largest number of workers that the run may ever have; the last global batch of an epoch is left
            out if it has fewer images than that.
    """

    blocks: Blocks
    seed: int
    batch_size: int
    task: Task
    mirror: bool = False
    max_workers: int = 1

    @property
    def image_size(self) -> int:
        """Side of an image in pixels."""
        return self.task.image_size

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        full, rest = divmod(len(self.blocks), self.batch_size)
        return full + (rest >= self.max_workers)

    @property
    def images(self) -> int:
        """Number of images in an epoch."""
        return min(self.steps * self.batch_size, len(self.blocks))

    def global_rows(self, step: int) -> int:
        """Returns the number of images in a step's global batch, over all ranks."""
        return min(self.batch_size, len(self.blocks) - step * self.batch_size)

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """Returns (N,) int64: the numbers of all images (their places in `Blocks.positions`) in an epoch's order."""
        rng = np.random.default_rng([self.seed, epoch])
        listed = self.blocks.source_order
        shuffled = rng.permutation(len(listed))  # drawn first, so that it does not depend on the number of blocks
        order = listed[shuffled]
        pool = np.repeat(_small(self._pools(rng), len(self.blocks)), [len(rows) for rows in self.blocks.usable])
        return order[np.argsort(pool[order], kind="stable")]

    def _pools(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Returns the pool of each block: of as many blocks in a row as there are pools, each goes to another one.

        So a pool has images of all homes, and most of a batch does not cross the network.
        """
        blocks = len(self.blocks.refs)
        pools = -(-len(self.blocks) * image_bytes(self.image_size) // POOL_BYTES)
        groups = np.tile(np.arange(pools), (-(-blocks // pools), 1))
        return rng.permuted(groups, axis=1).ravel()[:blocks]

    def homes(self, numbers: NDArray[np.int64], world_size: int) -> NDArray[np.int64]:
        """Returns the home ranks of images, given by their numbers."""
        return numbers * world_size // len(self.blocks)


def assign(homes: NDArray[np.int64], world_size: int) -> NDArray[np.int64]:
    """Shares out the images of global batches among the ranks.

    Args:
        homes: (steps, rows), the home rank of each image of each global batch.
        world_size: number of ranks.

    Returns:
        (steps, rows), the rank that trains on each image: its home where possible, and rank r gets as many images of
        each batch as there are numbers r, r + n, r + 2n ... below `rows`.
    """
    steps, rows = homes.shape
    ranks = np.tile(np.arange(world_size), steps)
    room = np.tile(np.bincount(np.arange(rows) % world_size, minlength=world_size), steps)
    keys = (homes + world_size * np.arange(steps)[:, None]).ravel()  # of a step and a home
    by_key = np.argsort(_small(keys, len(ranks)), kind="stable")
    counts = np.bincount(keys, minlength=len(ranks))
    first = np.cumsum(counts) - counts
    surplus = np.arange(len(keys)) - np.repeat(first, counts) >= np.repeat(room, counts)
    given = np.repeat(ranks, counts)
    given[surplus] = np.repeat(ranks, (room - counts).clip(0))
    shared = np.empty_like(given)
    shared[by_key] = given
    return shared.reshape(steps, rows)


def _small(numbers: NDArray[np.int64], end: int) -> NDArray[np.unsignedinteger]:
    """Returns numbers below `end` in few bits, which numpy sorts several times as fast: each rank does for all."""
    return numbers.astype(np.min_scalar_type(end))
