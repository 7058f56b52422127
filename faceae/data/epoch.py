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
    def mask_column(self) -> str:
        """Name of the column with the masks: fixed-size binary, see `faceae.corruption.masks.pack`."""
        return f"mask {self.seed} {self.epoch}"

    @property
    def mirror_column(self) -> str:
        """Name of the column that says which images are mirrored: fixed-size binary, one byte, 0 or 1."""
        return f"mirrored {self.seed} {self.epoch}"


class Drawn(NamedTuple):
    """The masks of an epoch.

    Attributes:
        key: the epoch.
        tables: the tables that hold the masks of each block, row by row, by the block's number.
    """

    key: EpochKey
    tables: dict[int, ray.ObjectRef]
