"""An epoch, as far as its masks are concerned. Imports nothing heavy, since the coordinator uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ray


class EpochKey(NamedTuple):
    """What the masks of an epoch depend on, besides the settings that all trials of a grid share.

    Attributes:
        seed: the run's seed.
        epoch: number of the epoch.
        mirror: whether half of the images are mirrored, chosen at random.
    """

    seed: int
    epoch: int
    mirror: bool

    @property
    def column(self) -> str:
        """Name of the column with the masks, see `faceae.data.epoch_masks.MaskRows`."""
        return f"masks of seed {self.seed}, epoch {self.epoch}{', mirrored' * self.mirror}"


class Drawn(NamedTuple):
    """The masks of an epoch.

    Attributes:
        key: the epoch.
        tables: the tables that hold the masks of each block, by the block's number.
    """

    key: EpochKey
    tables: dict[int, ray.ObjectRef]
