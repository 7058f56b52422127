"""Pictures at their own size, with their holes: read in parallel by Ray Data, and written again as PNG.

A block is an Arrow table of `image_id` and `name` (string: the file to write), `height` (int32), `pixels` (binary:
height x width x 3 uint8, row by row), `hole` (binary, one bit a pixel) and `reason` (string, null for a picture that
can be restored; one that cannot has no pixels).
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from faceae import storage
from faceae.corruption import masks
from faceae.corruption.detection import SIDE, detect_holes
from faceae.data.execution import lower_priority
from faceae.data.images import BadImage, Picture, decode_whole
from faceae.data.reader import AT_LEAST, BLOCK_BYTES, Stored, fetch, units
from faceae.data.sources import Entry

MOST = 64
"""Pictures in a block; fewer, if they are large."""

_WRITES = 16  # concurrent requests of one task to an object store

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("name", pa.string()),
        ("height", pa.int32()),
        ("pixels", pa.binary()),
        ("hole", pa.binary()),
        ("reason", pa.string()),
    ]
)


class FullSizeSource(Datasource):
    """Reads pictures and their masks, or finds their holes; one task reads some of them."""

    def __init__(self, names: Mapping[Entry, str], masks: Mapping[Entry, Entry], image_size: int) -> None:
        """What to read.

        Args:
            names: the pictures, and the file to write for each.
            masks: that of each picture; none, where the holes are to be found.
            image_size: side in pixels of portraits that are drawn.
        """
        self.names, self.masks, self.image_size = names, masks, image_size
        self.units = units(list(names), min(MOST, math.ceil(len(names) / AT_LEAST)))

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody knows: the pictures are of any size."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """One task a unit, whatever the parallelism."""
        return [self._task(unit) for unit in self.units]

    def _task(self, unit: Sequence[Entry]) -> ReadTask:
        names = [self.names[entry] for entry in unit]
        found = [self.masks[entry] for entry in unit] if self.masks else None
        size = self.image_size
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return ReadTask(lambda: _read_aside(unit, names, found, size), metadata)


def _read_aside(
    unit: Sequence[Entry], names: Sequence[str], found: Sequence[Entry] | None, image_size: int
) -> Iterator[pa.Table]:
    lower_priority()
    return read_full_size(unit, names, found, image_size)


def read_full_size(
    unit: Sequence[Entry], names: Sequence[str], found: Sequence[Entry] | None, image_size: int
) -> Iterator[pa.Table]:
    """Reads some pictures with their holes, block by block; see `FullSizeSource`.

    Raises:
        OSError: the storage failed.
    """
    shown: Iterable[Stored | None] = fetch(found, image_size) if found else itertools.repeat(None)
    rows: list[dict[str, Any]] = []
    for entry, name, stored, mask in zip(unit, names, fetch(unit, image_size), shown, strict=False):
        rows.append({"image_id": entry.image_id, "name": name} | _row(stored, mask))
        if sum(len(row.get("pixels", b"")) for row in rows) >= BLOCK_BYTES:
            yield pa.Table.from_pylist(rows, SCHEMA)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, SCHEMA)


def _row(stored: Stored, mask: Stored | None) -> dict[str, Any]:
    try:
        picture = _picture(stored)
        hole = detect_holes(*picture) if mask is None else _hole(mask, picture)
        if not hole.any() and mask is None:
            raise BadImage(f"there is no solid black box of {SIDE}x{SIDE} pixels or more in it; --masks can say more")
        if not hole.any():
            raise BadImage("its mask hides nothing; a hole is white in it")
        if hole.all():
            raise BadImage("nothing of it is known: the hole is all of it")
    except BadImage as error:
        return {"reason": str(error)}
    pixels = picture.pixels
    return {"height": len(pixels), "pixels": pixels.tobytes(), "hole": np.packbits(hole).tobytes()}


def _picture(stored: Stored) -> Picture:
    if isinstance(stored, BadImage):
        raise stored
    return decode_whole(stored) if isinstance(stored, bytes) else Picture(stored, lossy=False)


def _hole(mask: Stored, picture: Picture) -> NDArray[np.bool_]:
    """(H, W) bool of the picture's size."""
    try:
        image = Image.fromarray(_picture(mask).pixels)
    except BadImage as error:
        raise BadImage(f"its mask cannot be used: {error}") from None
    height, width = picture.pixels.shape[:2]
    return masks.of_image(image.resize((width, height), Image.Resampling.NEAREST))


def unpacked(row: Mapping[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture of a row, (H, W, 3) uint8, and its hole, (H, W) bool."""
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], -1, 3)
    height, width = pixels.shape[:2]
    bits = np.frombuffer(row["hole"], np.uint8)
    return pixels, np.unpackbits(bits, count=height * width).view(np.bool_).reshape(height, width)


def write_full_size(block: pa.Table, dest: str) -> pa.Table:
    """Writes the pictures of a block as PNG, which keeps every pixel.

    Returns:
        Its `image_id` and `reason` columns.

    Raises:
        OSError: the storage failed.
    """

    def write(row: Mapping[str, Any]) -> None:
        encoded = io.BytesIO()
        Image.fromarray(unpacked(row)[0]).save(encoded, "PNG")
        storage.write(storage.join(dest, row["name"]), encoded.getvalue())

    with ThreadPoolExecutor(_WRITES if storage.is_remote(dest) else 1) as threads:
        list(threads.map(write, (row for row in block.to_pylist() if row["reason"] is None)))
    return block.select(["image_id", "reason"])
