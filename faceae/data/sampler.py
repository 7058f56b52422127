"""The order of the images: which ones make up each global batch.

The order of an epoch is a function of the seed, the epoch and the images, not of the workers: global batch k holds the
same images at any number of workers, and rank r takes every r-th of them. So a run resumes, on as many workers as there
are by then, to what it would have been. Ray's own streaming_split promises neither that nor the last rows of an epoch
(ray#63285), and a map after it cannot know the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceae.data.cache import Blocks
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import image_bytes

POOL_BYTES = 512 * 2**20
"""Images are shuffled within pools of this many bytes (10,900 images at 128x128), made of blocks that are drawn anew in
each epoch: as good as a full shuffle for batches, while a node holds one pool at a time, not the whole set."""


@dataclass(frozen=True)
class GlobalBatchSampler:
    """Decides which images come when.

    Attributes:
        blocks: the images.
        seed: the run's seed.
        batch_size: images of a global batch.
        mask_generator: what is hidden in the images.
        mirror: whether each image is mirrored in half of the epochs.
        max_workers: how many workers may ever share the images; the last global batch of an epoch is left out if it
            has fewer images than that.
    """

    blocks: Blocks
    seed: int
    batch_size: int
    mask_generator: MaskGenerator
    mirror: bool = False
    max_workers: int = 1

    @property
    def image_size(self) -> int:
        """Side in pixels."""
        return self.mask_generator.image_size

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        full, rest = divmod(len(self.blocks), self.batch_size)
        return full + (rest >= self.max_workers)

    @property
    def images(self) -> int:
        """Images of an epoch."""
        return min(self.steps * self.batch_size, len(self.blocks))

    def global_rows(self, step: int) -> int:
        """Images of a step's global batch, over all workers."""
        return min(self.batch_size, len(self.blocks) - step * self.batch_size)

    def permutation(self, epoch: int) -> NDArray[np.int32]:
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

    def batches(self, epoch: int, rank: int, world_size: int) -> list[NDArray[np.int32]]:
        """For each step of an epoch, (n, 2): block and row of one rank's images."""
        order = self.permutation(epoch)
        starts = range(0, self.steps * self.batch_size, self.batch_size)
        return [order[start : start + self.batch_size][rank::world_size] for start in starts]
