"""Reads pictures at their own size, with their holes, in parallel by Ray Data, and writes pictures.

A block is an Arrow table of `image_id`, `name` (string: the file to write), `height` (int32), `pixels` (binary:
height x width x 3 uint8, row by row), `hole` (binary, one bit per pixel), `metadata` (what the file takes over, see
`faceae.data.metadata`) and `reason` (string: why a picture cannot be restored; null if it can). A picture that cannot
be restored has no pixels.

A picture may have 300 MB, so pixels are not copied where they can be used in place: each row of `pixels` and `hole` is
an Arrow chunk of its own, over the memory of a numpy array.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from faceae import storage
from faceae.data.execution import lower_priority
from faceae.data.images import BadImage, Stored
from faceae.data.metadata import Metadata, encode
from faceae.data.reader import BLOCK_BYTES, MIN_BLOCKS, fetch, units
from faceae.data.sources import Entry
from faceae.data.whole import read_hole, read_picture

MAX_BLOCK_PICTURES = 64
"""Maximum number of pictures in a block; large pictures fill a block earlier, at `BLOCK_BYTES`."""

_WRITES = 16  # concurrent requests of one task to an object store

_METADATA = pa.struct(
    [
        ("grey", pa.bool_()),
        ("exif", pa.binary()),
        ("icc", pa.binary()),
        ("xmp", pa.binary()),
        ("text", pa.list_(pa.list_(pa.string()))),
        ("dpi", pa.list_(pa.float64())),
        ("qtables", pa.list_(pa.list_(pa.int32()))),
        ("subsampling", pa.int32()),
    ]
)

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("name", pa.string()),
        ("height", pa.int32()),
        ("pixels", pa.binary()),
        ("hole", pa.binary()),
        ("metadata", _METADATA),
        ("reason", pa.string()),
    ]
)

_IN_PLACE = ("pixels", "hole")
_PLAIN = [name for name in SCHEMA.names if name not in _IN_PLACE]

Row = dict[str, Any]
"""A row of a block; `pixels` and `hole` are arrays of bytes, or Arrow buffers."""


class FullSizeSource(Datasource):
    """Reads pictures with their masks, or detects their holes; each read task reads one unit of them."""

    def __init__(
        self,
        names: Mapping[Entry, str],
        masks: Mapping[Entry, Entry] | Entry | None,
        image_size: int,
        grow: int = 0,
        whole: bool = False,
    ) -> None:
        """Divides the pictures into units.

        Args:
            names: the pictures, and for each the name of the file to write.
            masks: the mask of each picture, or the one mask of all; None if the holes are to be detected.
            image_size: side in pixels of synthetic portraits.
            grow: how many pixels the holes are larger than that to each side.
            whole: whether all of each picture is its hole, for models that change every pixel.
        """
        self.names, self.masks, self.image_size, self.grow, self.whole = names, masks, image_size, grow, whole
        self.units = units(list(names), min(MAX_BLOCK_PICTURES, math.ceil(len(names) / MIN_BLOCKS)))

    def estimate_inmemory_data_size(self) -> int | None:
        """Returns None: the pictures may have any size, so the total is unknown."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """Returns one task per unit, whatever the parallelism."""
        return [self._task(unit) for unit in self.units]

    def read(self, unit: Sequence[Entry]) -> Iterator[pa.Table]:
        """Reads some of the pictures in this process; see `read_full_size`."""
        return read_full_size(*self._arguments(unit))

    def _arguments(self, unit: Sequence[Entry]) -> tuple[Any, ...]:
        names = [self.names[entry] for entry in unit]
        masks = [self.masks[entry] for entry in unit] if isinstance(self.masks, Mapping) else self.masks
        return unit, names, masks, self.image_size, self.grow, self.whole

    def _task(self, unit: Sequence[Entry]) -> ReadTask:
        arguments = self._arguments(unit)
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return ReadTask(lambda: _read_at_low_priority(*arguments), metadata)


def _read_at_low_priority(*arguments: Any) -> Iterator[pa.Table]:  # noqa: ANN401
    lower_priority()
    return read_full_size(*arguments)


def read_full_size(
    unit: Sequence[Entry],
    names: Sequence[str],
    masks: Sequence[Entry] | Entry | None,
    image_size: int,
    grow: int = 0,
    whole: bool = False,
) -> Iterator[pa.Table]:
    """Reads the pictures of a unit with their holes, block by block; see `FullSizeSource`.

    Args:
        unit: the pictures.
        names: for each picture the name of the file to write.
        masks: the mask of each picture, or the one mask of all; None if the holes are to be detected.
        image_size: side in pixels of synthetic portraits.
        grow: how many pixels the holes are larger than that to each side.
        whole: whether all of each picture is its hole.

    Yields:
        Tables with the columns of `SCHEMA`.

    Raises:
        OSError: the storage failed.
    """
    one = isinstance(masks, Entry)
    rows: list[Row] = []
    for entry, name, stored, mask in zip(
        unit, names, fetch(unit, image_size), _stored(masks, image_size), strict=False
    ):
        read = _row(stored, mask, grow, same_shape=one, whole=whole)
        rows.append({"image_id": entry.image_id, "name": name} | read)
        if sum(row["pixels"].nbytes for row in rows if "pixels" in row) >= BLOCK_BYTES:
            yield block(rows)
            rows = []
    if rows:
        yield block(rows)


def _stored(masks: Sequence[Entry] | Entry | None, image_size: int) -> Iterable[Stored | None]:
    if masks is None:
        return itertools.repeat(None)
    if isinstance(masks, Entry):
        return itertools.repeat(next(fetch([masks], image_size)))
    return fetch(masks, image_size)


def _row(stored: Stored, mask: Stored | None, grow: int, *, same_shape: bool, whole: bool) -> Row:
    try:
        picture = read_picture(stored)
        hole = np.ones(picture.pixels.shape[:2], np.bool_)
        if not whole:
            hole = read_hole(picture, mask, grow, same_shape=same_shape)
    except BadImage as error:
        return {"reason": str(error)}
    return {"metadata": picture.metadata._asdict()} | packed(picture.pixels, hole)


def packed(pixels: NDArray[np.uint8], hole: NDArray[np.bool_]) -> Row:
    """Returns the part of a row that `unpacked` reads: (H, W, 3) uint8 and (H, W) bool."""
    return {"height": len(pixels), "pixels": pixels, "hole": np.packbits(hole)}


def block(rows: Sequence[Row]) -> pa.Table:
    """Returns rows as a block, over the memory of their arrays."""
    columns: dict[str, Any] = {
        name: pa.array([row.get(name) for row in rows], SCHEMA.field(name).type) for name in _PLAIN
    }
    columns |= {name: pa.chunked_array([_bytes(row.get(name)) for row in rows], pa.binary()) for name in _IN_PLACE}
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _bytes(value: NDArray[np.uint8] | pa.Buffer | None) -> pa.Array:
    """Returns an Arrow array of one row, without a copy."""
    if value is None:
        return pa.nulls(1, pa.binary())
    data = value if isinstance(value, pa.Buffer) else pa.py_buffer(np.ascontiguousarray(value))
    return pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(np.array([0, data.size], np.int32)), data])


def rows_of(table: pa.Table) -> list[Row]:
    """Returns the rows of a block; the bytes of `pixels` and `hole` are buffers over the block's own memory."""
    rows: list[Row] = table.drop_columns(list(_IN_PLACE)).to_pylist()
    for name in _IN_PLACE:
        for row, value in zip(rows, table[name], strict=True):
            row[name] = value.as_buffer()
    return rows


def unpacked(row: Mapping[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Returns the picture of a row, (H, W, 3) uint8, and its hole, (H, W) bool."""
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], -1, 3)
    height, width = pixels.shape[:2]
    bits = np.frombuffer(row["hole"], np.uint8)
    return pixels, np.unpackbits(bits, count=height * width).view(np.bool_).reshape(height, width)


def write_full_size(table: pa.Table, dest: str) -> pa.Table:
    """Writes the pictures of a block, each in the format of its name's extension.

    Args:
        table: a block as described above; rows with a `reason` are not written.
        dest: URI of the folder to write to.

    Returns:
        The block's `image_id` and `reason` columns.

    Raises:
        OSError: the storage failed.
    """

    def write(row: Row) -> None:
        extension = PurePosixPath(row["name"]).suffix.lower()
        encoded = encode(unpacked(row)[0], Metadata(**row["metadata"]), extension)
        storage.write(storage.join(dest, row["name"]), encoded)

    with ThreadPoolExecutor(_WRITES if storage.is_remote(dest) else 1) as threads:
        list(threads.map(write, (row for row in rows_of(table) if row["reason"] is None)))
    return table.select(["image_id", "reason"])
