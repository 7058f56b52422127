"""Loads the images of the fixture `decoded` (tests/local_ray/conftest.py) as a training worker does."""

import pytest

from faceae.config import Mask
from faceae.data import loader as module
from faceae.data.epoch_masks import MaskDrawer
from faceae.data.loader import BatchLoader, Ranks
from faceae.data.sampler import GlobalBatchSampler
from faceae.tasks import Inpaint

SIZE, BOX = 32, 9


def sampler_of(decoded, batch_size=8, seed=0):
    return GlobalBatchSampler(decoded[0], seed, batch_size, Inpaint(Mask(size=BOX), SIZE))


class Masks:
    """Draws the masks of one epoch at a time, when they are needed."""

    def __init__(self, sampler):
        self.drawer = MaskDrawer(sampler.blocks, sampler.task)

    def __call__(self, key, blocks):
        (drawn,) = self.drawer.draw([key])
        return drawn


def load_epochs(sampler, rank=0, world_size=1, epochs=range(1, 3), chunk_bytes=None, first_step=0):
    """Returns for each epoch a list of batches, one for each step."""
    with pytest.MonkeyPatch.context() as patch:
        if chunk_bytes:
            patch.setattr(module, "CHUNK_BYTES", chunk_bytes)
        loader = BatchLoader(sampler, epochs, Masks(sampler), Ranks(rank, ("one",) * world_size), first_step=first_step)
        result = [list(loader.epoch()) for _ in epochs]
        loader.close()
    return result


def key(pixels):
    return pixels.tobytes()
