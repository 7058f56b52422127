"""Reads pictures to measure, at their own size or at the model's, with what another program has made of them.

A block is an Arrow table of `image_id`, `height` (int32), `pixels` (binary: height x width x 3 uint8, row by row),
`restored` (a list of such binaries, of the same picture restored by another program; may be empty) and `reason`
(string: why the picture cannot be measured; null if it can, and otherwise there are no pixels).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from faceae.data.execution import lower_priority
from faceae.data.images import BadImage, Stored, decode_whole
from faceae.data.reader import BLOCK_BYTES, MIN_BLOCKS, fetch, to_pixels, units
from faceae.data.sources import Entry

_MAX_BLOCK_PICTURES = 64

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("pixels", pa.binary()),
        ("restored", pa.list_(pa.binary())),
        ("reason", pa.string()),
    ]
)


class PictureSource(Datasource):
    """Reads pictures, and what was restored of them; each read task reads one unit of them."""

    def __init__(
        self, entries: Sequence[Entry], restored: Mapping[str, Sequence[Entry]], side: int, own_size: bool
    ) -> None:
        """Divides the pictures into units.

        Args:
            entries: the pictures.
            restored: by image_id, what another program has restored of a picture, once for each of its masks; empty if
                a model restores them.
            side: side in pixels of synthetic portraits, and of all pictures unless they keep their own size.
            own_size: whether pictures keep their own size; otherwise they are decoded as for training.
        """
        self.restored, self.side, self.own_size = restored, side, own_size
        self.units = units(entries, min(_MAX_BLOCK_PICTURES, math.ceil(len(entries) / MIN_BLOCKS)))

    def estimate_inmemory_data_size(self) -> int | None:
        """Returns None: the pictures may have any size, so the total is unknown."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """Returns one task per unit, whatever the parallelism."""
        return [self._task(unit) for unit in self.units]

    def _task(self, unit: Sequence[Entry]) -> ReadTask:
        restored = [list(self.restored.get(entry.image_id, ())) for entry in unit]
        side, own_size = self.side, self.own_size

        def read() -> Iterator[pa.Table]:
            lower_priority()
            return read_pictures(unit, restored, side, own_size)

        return ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))


def read_pictures(
    unit: Sequence[Entry], restored: Sequence[Sequence[Entry]], side: int, own_size: bool
) -> Iterator[pa.Table]:
    """Reads the pictures of a unit, block by block, each of at most about `BLOCK_BYTES`; see `PictureSource`.

    Raises:
        OSError: the storage failed.
    """
    made = [entry for entries in restored for entry in entries]
    fetched = fetch(made, side) if made else iter(())
    rows: list[dict[str, Any]] = []
    read = 0
    for entry, stored, entries in zip(unit, fetch(unit, side), restored, strict=True):
        others = list(itertools.islice(fetched, len(entries)))
        rows.append({"image_id": entry.image_id} | _row(stored, others, side, own_size))
        read += (1 + len(entries)) * len(rows[-1].get("pixels", b""))
        if read >= BLOCK_BYTES:
            yield pa.Table.from_pylist(rows, SCHEMA)
            rows, read = [], 0
    if rows:
        yield pa.Table.from_pylist(rows, SCHEMA)


def _row(stored: Stored, restored: Sequence[Stored], side: int, own_size: bool) -> dict[str, Any]:
    try:
        picture = _pixels(stored, side, own_size)
        made = [_of_same_size(other, picture, side, own_size) for other in restored]
    except BadImage as error:
        return {"reason": str(error)}
    return {"height": len(picture), "pixels": picture.tobytes(), "restored": [pixels.tobytes() for pixels in made]}


def _pixels(stored: Stored, side: int, own_size: bool) -> NDArray[np.uint8]:
    if not own_size:
        return to_pixels(stored, side)
    if isinstance(stored, BadImage):
        raise stored
    return decode_whole(stored).pixels if isinstance(stored, bytes) else stored


def _of_same_size(stored: Stored, picture: NDArray[np.uint8], side: int, own_size: bool) -> NDArray[np.uint8]:
    try:
        pixels = _pixels(stored, side, own_size)
    except BadImage as error:
        raise BadImage(f"what was restored of it cannot be used: {error}") from None
    if pixels.shape != picture.shape:
        height, width, _ = picture.shape
        raise BadImage(f"what was restored of it is {pixels.shape[1]}x{pixels.shape[0]} pixels, not {width}x{height}")
    return pixels
