"""The holes that an evaluation measures with: drawn at the model's size, drawn at the pictures' own, or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from faceae.config import PictureHole
from faceae.corruption import masks
from faceae.data.frozen_masks import Row, row
from faceae.tasks import Inpaint, Several

Place = tuple[str, int, int]
"""A picture: its image_id, height and width."""


class Holes(Protocol):
    """The holes of an evaluation; sent to the processes that measure."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of holes, in the order in which they are shown."""

    def rows(self, pictures: Sequence[Place]) -> list[list[Row]]:
        """Returns the masks of each picture, as rows of `faceae.data.frozen_masks`."""


@dataclass(frozen=True)
class DrawnHoles:
    """One hole in each image, drawn at the model's size as in validation."""

    task: Inpaint

    @property
    def kinds(self) -> Sequence[str]:
        """See `Holes`."""
        return self.task.mask.kind

    def rows(self, pictures: Sequence[Place]) -> list[list[Row]]:
        """See `Holes`."""
        ids = [image_id for image_id, _, _ in pictures]
        side, settings = self.task.image_size, self.task.mask
        kinds = masks.kinds(ids, settings, seed=0, epoch=masks.VALIDATION_EPOCH)
        sizes = masks.sizes(ids, settings, seed=0, epoch=masks.VALIDATION_EPOCH)
        drawn = self.task.draw_validation(ids)
        return [
            [row(image_id, kind, size, 0, side, side, bits.tobytes())]
            for image_id, kind, size, bits in zip(ids, kinds, sizes, drawn, strict=True)
        ]


@dataclass(frozen=True)
class EveryPixel:
    """The whole of each image at the model's size, for tasks that ask for all of it."""

    name: str

    @property
    def kinds(self) -> Sequence[str]:
        """See `Holes`; the task stands for the kind of hole."""
        return [self.name]

    def rows(self, pictures: Sequence[Place]) -> list[list[Row]]:
        """See `Holes`."""
        _, height, width = pictures[0]
        bits = _all_of(height, width)
        return [[row(image_id, self.name, None, 0, height, width, bits)] for image_id, height, width in pictures]


@dataclass(frozen=True)
class HolesOfTasks:
    """What each image is asked for by the one of several tasks that is drawn for it; the tasks are the kinds."""

    task: Several

    @property
    def kinds(self) -> Sequence[str]:
        """See `Holes`."""
        return self.task.names

    def rows(self, pictures: Sequence[Place]) -> list[list[Row]]:
        """See `Holes`."""
        drawn = self.task.split(self.task.draw_validation([image_id for image_id, _, _ in pictures]))
        rows = []
        for (image_id, height, width), (name, task, given) in zip(pictures, drawn, strict=True):
            bits = given.tobytes() if isinstance(task, Inpaint) else _all_of(height, width)
            rows.append([row(image_id, name, None, 0, height, width, bits)])
        return rows


def _all_of(height: int, width: int) -> bytes:
    return b"\xff" * (height * width // 8)


@dataclass(frozen=True)
class OwnSizeHoles:
    """Several holes, one after the other, in each picture that is large enough for them."""

    holes: tuple[PictureHole, ...]

    @property
    def kinds(self) -> Sequence[str]:
        """See `Holes`."""
        return list(dict.fromkeys(hole.name for hole in self.holes))

    def rows(self, pictures: Sequence[Place]) -> list[list[Row]]:
        """See `Holes`."""
        return [[_drawn(hole, *picture) for hole in self.holes if hole.fits(*picture[1:])] for picture in pictures]


def _drawn(hole: PictureHole, image_id: str, height: int, width: int) -> Row:
    mask = masks.draw_at_own_size(image_id, hole, (height, width))
    bits = np.packbits(mask, bitorder="little").tobytes()
    return row(image_id, hole.name, hole.size, 0, height, width, bits)


@dataclass(frozen=True)
class FrozenHoles:
    """The holes of a file.

    Attributes:
        table: the masks, see `faceae.data.frozen_masks`, in the object store.
        kinds: the kinds of holes.
    """

    table: ray.ObjectRef
    kinds: Sequence[str]

    @classmethod
    def create(cls, table: pa.Table) -> FrozenHoles:
        """Puts the masks of a file where all processes can read them."""
        return cls(ray.put(table), table["kind"].unique().to_pylist())

    def rows(self, pictures: Sequence[Place]) -> list[list[Row]]:
        """See `Holes`; the masks may have another size than the picture."""
        ids = [image_id for image_id, _, _ in pictures]
        wanted: dict[str, list[Row]] = {image_id: [] for image_id in ids}
        table: pa.Table = ray.get(self.table)  # without a copy
        for each in table.filter(pc.is_in(table["image_id"], pa.array(ids, pa.string()))).to_pylist():
            wanted[each["image_id"]].append(each)
        return [wanted[image_id] for image_id in ids]
