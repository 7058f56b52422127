"""Reads pictures at their own size, with their holes, in parallel by Ray Data, and writes pictures as PNG.

A block is an Arrow table of `image_id`, `name` (string: the file to write), `height` (int32), `pixels` (binary:
height x width x 3 uint8, row by row), `hole` (binary, one bit per pixel) and `reason` (string: why a picture cannot be
restored; null if it can). A picture that cannot be restored has no pixels.
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
from faceae.corruption.detection import SIDE, TooManyAreas, detect_holes
from faceae.data.execution import lower_priority
from faceae.data.images import BadImage, Picture, decode_whole
from faceae.data.mask_files import read_mask
from faceae.data.reader import BLOCK_BYTES, MIN_BLOCKS, Stored, fetch, units
from faceae.data.sources import Entry

MAX_BLOCK_PICTURES = 64
"""Maximum number of pictures in a block; large pictures fill a block earlier, at `BLOCK_BYTES`."""

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
    """Reads pictures with their masks, or detects their holes; each read task reads one unit of them."""

    def __init__(self, names: Mapping[Entry, str], masks: Mapping[Entry, Entry], image_size: int) -> None:
        """Divides the pictures into units.

        Args:
            names: the pictures, and for each the name of the file to write.
            masks: the mask of each picture; empty if the holes are to be detected.
            image_size: side in pixels of synthetic portraits.
        """
        self.names, self.masks, self.image_size = names, masks, image_size
        self.units = units(list(names), min(MAX_BLOCK_PICTURES, math.ceil(len(names) / MIN_BLOCKS)))

    def estimate_inmemory_data_size(self) -> int | None:
        """Returns None: the pictures may have any size, so the total is unknown."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """Returns one task per unit, whatever the parallelism."""
        return [self._task(unit) for unit in self.units]

    def _task(self, unit: Sequence[Entry]) -> ReadTask:
        names = [self.names[entry] for entry in unit]
        mask_entries = [self.masks[entry] for entry in unit] if self.masks else None
        size = self.image_size
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return ReadTask(lambda: _read_at_low_priority(unit, names, mask_entries, size), metadata)


def _read_at_low_priority(
    unit: Sequence[Entry], names: Sequence[str], mask_entries: Sequence[Entry] | None, image_size: int
) -> Iterator[pa.Table]:
    lower_priority()
    return read_full_size(unit, names, mask_entries, image_size)


def read_full_size(
    unit: Sequence[Entry], names: Sequence[str], mask_entries: Sequence[Entry] | None, image_size: int
) -> Iterator[pa.Table]:
    """Reads the pictures of a unit with their holes, block by block; see `FullSizeSource`.

    Args:
        unit: the pictures.
        names: for each picture the name of the file to write.
        mask_entries: the mask of each picture; None if the holes are to be detected.
        image_size: side in pixels of synthetic portraits.

    Yields:
        Tables with the columns of `SCHEMA`.

    Raises:
        OSError: the storage failed.
    """
    mask_files: Iterable[Stored | None] = fetch(mask_entries, image_size) if mask_entries else itertools.repeat(None)
    rows: list[dict[str, Any]] = []
    for entry, name, stored, mask in zip(unit, names, fetch(unit, image_size), mask_files, strict=False):
        rows.append({"image_id": entry.image_id, "name": name} | _row(stored, mask))
        if sum(len(row.get("pixels", b"")) for row in rows) >= BLOCK_BYTES:
            yield pa.Table.from_pylist(rows, SCHEMA)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, SCHEMA)


def _row(stored: Stored, mask: Stored | None) -> dict[str, Any]:
    try:
        picture = _picture(stored)
        hole = _detected(picture) if mask is None else _of_mask(mask, picture)
    except BadImage as error:
        return {"reason": str(error)}
    pixels = picture.pixels
    return {"height": len(pixels), "pixels": pixels.tobytes(), "hole": np.packbits(hole).tobytes()}


def _picture(stored: Stored) -> Picture:
    if isinstance(stored, BadImage):
        raise stored
    return decode_whole(stored) if isinstance(stored, bytes) else Picture(stored, lossy=False)


def _detected(picture: Picture) -> NDArray[np.bool_]:
    try:
        hole = detect_holes(*picture)
    except TooManyAreas as error:
        raise BadImage(f"it has {error}, too many to look for boxes among them; give its mask with --masks") from None
    if not hole.any():
        raise BadImage(f"there is no solid black box of {SIDE}x{SIDE} pixels or more in it; give its mask with --masks")
    if hole.all():
        raise BadImage("all of it is black, so nothing of it is known")
    return hole


def _of_mask(mask: Stored, picture: Picture) -> NDArray[np.bool_]:
    height, width = picture.pixels.shape[:2]
    try:
        return read_mask(mask, width, height)
    except BadImage as error:
        raise BadImage(f"its mask {error}") from None


def unpacked(row: Mapping[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Returns the picture of a row, (H, W, 3) uint8, and its hole, (H, W) bool."""
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], -1, 3)
    height, width = pixels.shape[:2]
    bits = np.frombuffer(row["hole"], np.uint8)
    return pixels, np.unpackbits(bits, count=height * width).view(np.bool_).reshape(height, width)


def write_full_size(block: pa.Table, dest: str) -> pa.Table:
    """Writes the pictures of a block as PNG, which is lossless.

    Args:
        block: a block as described above; rows with a `reason` are not written.
        dest: URI of the folder to write to.

    Returns:
        The block's `image_id` and `reason` columns.

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
