"""The order of the images: which ones make up each global batch.

The order of an epoch depends on the seed, the epoch and the images, but not on the workers: global batch k holds the
same images for every world size, and rank r of n takes images r, r + n, r + 2n and so on of it. So a run that resumes
on another number of workers continues as if it had not stopped. Ray's own streaming_split guarantees neither this nor
the last rows of an epoch (ray#63285), and a map after it cannot know the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceae.data.cache import Blocks
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import image_bytes

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
        mask_generator: draws the masks of the images.
        mirror: whether each image is mirrored in half of the epochs, chosen at random.
        max_workers: largest number of workers that the run may ever have; the last global batch of an epoch is left
            out if it has fewer images than that.
    """

    blocks: Blocks
    seed: int
    batch_size: int
    mask_generator: MaskGenerator
    mirror: bool = False
    max_workers: int = 1

    @property
    def image_size(self) -> int:
        """Side of an image in pixels."""
        return self.mask_generator.image_size

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

    def permutation(self, epoch: int) -> NDArray[np.int32]:
        """Returns (N, 2) int32: the block and row of every usable image, in the order of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        positions = self.blocks.positions()
        shuffled = rng.permutation(len(positions))  # drawn first, so that it does not depend on the number of blocks
        counts = np.array([len(rows) for rows in self.blocks.usable])
        blocks = rng.permutation(len(counts))
        pool = np.cumsum(counts[blocks]) * image_bytes(self.image_size) // POOL_BYTES
        pool_of_block = np.empty_like(blocks)
        pool_of_block[blocks] = pool
        return positions[shuffled[np.argsort(pool_of_block[positions[shuffled, 0]], kind="stable")]]

    def batches(self, epoch: int, rank: int, world_size: int) -> list[NDArray[np.int32]]:
        """Returns, for each step of an epoch, (n, 2) int32: the block and row of one rank's images."""
        order = self.permutation(epoch)
        starts = range(0, self.steps * self.batch_size, self.batch_size)
        return [order[start : start + self.batch_size][rank::world_size] for start in starts]
