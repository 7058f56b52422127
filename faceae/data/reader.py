"""Entries -> blocks of decoded pixels, in parallel over the cluster: a Ray Data source.

A block is an Arrow table of `image_id` (string), `pixels` (fixed-size binary: image_size x image_size x 3
uint8, row by row) and `reason` (string, null for a usable image; the pixels of an unusable one are black).
Fixed-size binary is read back without a copy, and is what a Parquet shard of decoded pixels holds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from faceae import storage
from faceae.data import synthetic
from faceae.data.archives import read_member
from faceae.data.execution import lower_priority
from faceae.data.images import BadImage, decode
from faceae.data.sources import SYNTHETIC, Entry

BLOCK_BYTES = 24 * 2**20
"""Decoded size of a block, which a task decodes: 512 images at 128x128, a third of a second."""

AT_LEAST = 8
"""Blocks of a set that is small: for as many cores."""

_FETCHES = 16  # concurrent requests of one read task to an object store, where latency is the bound


def image_bytes(image_size: int) -> int:
    """Bytes of one decoded image."""
    return image_size * image_size * 3


def pixels_array(pixels: NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    """(N, H, W, C) or (N, B) uint8 -> an Arrow array over the same memory."""
    flat = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(flat.shape[1]), len(flat), [None, pa.py_buffer(flat)])


def column_bytes(table: pa.Table, name: str) -> NDArray[np.uint8]:
    """A fixed-size binary column in one piece as (N, B) uint8, read-only, over the table's own memory."""
    (chunk,) = table[name].chunks
    return _chunk_bytes(chunk)


def column_rows(table: pa.Table, name: str) -> list[NDArray[np.uint8]]:
    """The rows of a fixed-size binary column, each (B,) uint8, read-only, over the table's own memory.

    For blocks: Ray Data joins what one task yields (a large row group of Parquet) into tables of several chunks, and
    to combine these would copy them each time.
    """
    return [row for chunk in table[name].chunks for row in _chunk_bytes(chunk)]


def _chunk_bytes(chunk: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    width = chunk.type.byte_width
    flat = np.frombuffer(chunk.buffers()[1], np.uint8)
    return flat[chunk.offset * width : (chunk.offset + len(chunk)) * width].reshape(len(chunk), width)


class FaceSource(Datasource):
    """Reads and decodes entries, one task a unit: some image files, in archives or not, or row groups of Parquet."""

    def __init__(self, entries: Sequence[Entry], image_size: int) -> None:
        self.image_size = image_size
        self.units = units(entries, min(block_rows(image_size), math.ceil(len(entries) / AT_LEAST)))

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all blocks together."""
        return sum(len(unit) for unit in self.units) * image_bytes(self.image_size)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """One task a unit, whatever the parallelism: the blocks must not depend on the cluster's size."""
        return [_read_task(unit, self.image_size) for unit in self.units]


def units(entries: Sequence[Entry], rows: int) -> list[Sequence[Entry]]:
    """Divides entries into what a task reads: so many image files, or as many row groups of Parquet."""
    divided: list[Sequence[Entry]] = list(_chunks([entry for entry in entries if not entry.column], rows))
    tabled = sorted((entry for entry in entries if entry.column), key=lambda entry: entry[1:5])
    unit: list[Entry] = []
    for _, group in itertools.groupby(tabled, _row_group):
        wanted = list(group)
        if unit and len(unit) + len(wanted) > rows:
            divided.append(unit)
            unit = []
        unit += wanted  # of a few images each, as in a split, several groups make a task and a block
    return [*divided, unit] if unit else divided


def _row_group(entry: Entry) -> tuple[str, str, int]:
    return entry.uri, entry.column, entry.row_group


def _read_task(unit: Sequence[Entry], image_size: int) -> ReadTask:
    metadata = BlockMetadata(
        num_rows=len(unit), size_bytes=len(unit) * image_bytes(image_size), input_files=None, exec_stats=None
    )
    return ReadTask(lambda: _read_aside(unit, image_size), metadata)


def _read_aside(unit: Sequence[Entry], image_size: int) -> Iterator[pa.Table]:
    lower_priority()
    return read_unit(unit, image_size)


def block_rows(image_size: int) -> int:
    """Images in a full block."""
    return max(1, BLOCK_BYTES // image_bytes(image_size))


def read_unit(unit: Sequence[Entry], image_size: int) -> Iterator[pa.Table]:
    """Reads and decodes the images of one unit, block by block.

    Raises:
        OSError: the storage failed. A bad image raises nothing: it has its reason in the table.
    """
    fetched = fetch(unit, image_size)
    for entries in _chunks(unit, block_rows(image_size)):
        pixels = np.zeros((len(entries), image_size, image_size, 3), np.uint8)
        reasons: list[str | None] = [None] * len(entries)
        for i, stored in enumerate(itertools.islice(fetched, len(entries))):
            try:
                pixels[i] = _to_pixels(stored, image_size)
            except BadImage as error:
                reasons[i] = str(error)
        yield pa.table(
            {
                "image_id": pa.array([entry.image_id for entry in entries], pa.string()),
                "pixels": pixels_array(pixels),
                "reason": pa.array(reasons, pa.string()),
            }
        )


def _chunks(entries: Sequence[Entry], rows: int) -> Iterator[Sequence[Entry]]:
    return (entries[i : i + rows] for i in range(0, len(entries), rows))


Stored = bytes | NDArray[np.uint8] | BadImage


def fetch(unit: Sequence[Entry], image_size: int) -> Iterator[Stored]:
    """What is stored for each entry: an encoded image, pixels, or why there is none."""
    if unit[0].column:  # then all of them: a unit is of row groups, or of files and drawn portraits in any mixture
        for _, entries in itertools.groupby(unit, _row_group):
            yield from _fetch_row_group(list(entries))
    elif any(storage.is_remote(entry.uri) for entry in unit):
        with ThreadPoolExecutor(_FETCHES) as threads:
            yield from threads.map(lambda entry: _fetch_one(entry, image_size), unit)
    else:
        yield from (_fetch_one(entry, image_size) for entry in unit)


def _fetch_one(entry: Entry, image_size: int) -> Stored:
    if entry.uri == SYNTHETIC:
        return synthetic.portrait(entry.row, image_size)
    try:
        return read_member(entry.uri, entry.span) if entry.span else storage.read(entry.uri)
    except BadImage as error:
        return error
    except FileNotFoundError:
        return BadImage("the file has gone since it was listed")
    except PermissionError:
        return BadImage("no permission to read the file")


def read_encoded(entry: Entry) -> bytes:
    """The bytes of an image file, in an archive or a table or not.

    Raises:
        BadImage: there are none.
    """
    (stored,) = fetch([entry], 0)
    if isinstance(stored, bytes):
        return stored
    raise stored if isinstance(stored, BadImage) else BadImage("it is not an image file")


def _fetch_row_group(unit: Sequence[Entry]) -> Iterator[Stored]:
    first = unit[0]
    values = _read_row_group(first.uri, first.row_group, first.column)
    for entry in unit:
        value = values[entry.row].as_py()
        if isinstance(value, dict):
            value = value["bytes"]
        if value is None:
            yield BadImage("the table has no bytes for it")
        elif first.column == "pixels":
            yield _square_pixels(value)
        else:
            yield value


@storage.retry_outages
def _read_row_group(uri: str, group: int, column: str) -> pa.ChunkedArray:
    filesystem, path = storage.resolve(uri)
    with pq.ParquetFile(filesystem.open_input_file(path)) as file:
        return file.read_row_group(group, columns=[column])[0]


def _square_pixels(value: bytes) -> Stored:
    side = round((len(value) / 3) ** 0.5)
    if image_bytes(side) != len(value):
        return BadImage(f"{len(value)} bytes of pixels are no square RGB image")
    return np.frombuffer(value, np.uint8).reshape(side, side, 3)


def _to_pixels(stored: Stored, image_size: int) -> NDArray[np.uint8]:
    if isinstance(stored, BadImage):
        raise stored
    if isinstance(stored, bytes):
        return decode(stored, image_size)
    if len(stored) == image_size:
        return stored
    return np.asarray(Image.fromarray(stored).resize((image_size, image_size), Image.Resampling.LANCZOS))
