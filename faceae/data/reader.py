"""A Ray Data source that reads entries and decodes them to blocks of pixels, in parallel over the cluster.

A block is an Arrow table of `image_id` (string), `pixels` (fixed-size binary: image_size x image_size x 3 uint8, row
by row) and `reason` (string: why an image cannot be used; null if it can). The pixels of an unusable image are black.
Fixed-size binary is read back without a copy; Parquet shards of decoded pixels have the same type.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
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
from faceae.data import synthetic
from faceae.data.archives import Span, is_adjacent, read_members
from faceae.data.execution import lower_priority
from faceae.data.images import BadImage, Stored, check_dimensions, decode
from faceae.data.sources import SYNTHETIC, Entry
from faceae.data.tables import PIXELS, read_rows

BLOCK_BYTES = 24 * 2**20
"""Decoded size of a block, which is the work of one task: 512 images at 128x128, a third of a second."""

MIN_BLOCKS = 8
"""Number of blocks that even a small data set is divided into, to keep this many cores busy."""

_FETCHES = 16  # concurrent requests of one read task to an object store, where latency limits the rate


def image_bytes(image_size: int) -> int:
    """Returns the size of one decoded image in bytes."""
    return image_size * image_size * 3


def pixels_array(pixels: NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    """Converts (N, H, W, C) or (N, B) uint8 to an Arrow array over the same memory (a copy if not contiguous)."""
    flat = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(flat.shape[1]), len(flat), [None, pa.py_buffer(flat)])


def column_bytes(table: pa.Table, name: str) -> NDArray[np.uint8]:
    """Returns a fixed-size binary column of one Arrow chunk as (N, B) uint8, read-only, over the table's own memory."""
    (chunk,) = table[name].chunks
    return _chunk_bytes(chunk)


Rows = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
"""Rows of a fixed-size binary column, each (B,) uint8, read-only."""


def column_rows(table: pa.Table, name: str) -> Rows:
    """Returns the rows of a fixed-size binary column over the table's own memory.

    Unlike `column_bytes`, it takes columns of several Arrow chunks, such as those of blocks: Ray Data joins what one
    task yields (for a large row group of Parquet) into one table, and to combine its chunks would copy them each time.
    """
    chunks = [_chunk_bytes(chunk) for chunk in table[name].chunks]
    return chunks[0] if len(chunks) == 1 else [row for chunk in chunks for row in chunk]


def _chunk_bytes(chunk: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    width = chunk.type.byte_width
    flat = np.frombuffer(chunk.buffers()[1], np.uint8)
    return flat[chunk.offset * width : (chunk.offset + len(chunk)) * width].reshape(len(chunk), width)


class FaceSource(Datasource):
    """Reads and decodes entries, one task per unit.

    A unit is a number of image files, in archives or not, or of row groups of Parquet.
    """

    def __init__(self, entries: Sequence[Entry], image_size: int) -> None:
        self.image_size = image_size
        self.units = units(entries, min(block_rows(image_size), math.ceil(len(entries) / MIN_BLOCKS)))

    def estimate_inmemory_data_size(self) -> int:
        """Returns the size of all blocks together, in bytes."""
        return sum(len(unit) for unit in self.units) * image_bytes(self.image_size)

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """Returns one task per unit, whatever the parallelism: the blocks must not depend on the cluster's size."""
        return [_read_task(unit, self.image_size) for unit in self.units]


def units(entries: Sequence[Entry], rows: int) -> list[Sequence[Entry]]:
    """Divides entries into units, each the work of one task.

    Args:
        entries: the images.
        rows: maximum number of images in a unit. Only a single row group of Parquet may exceed it: none is divided.
    """
    files = sorted((entry for entry in entries if not entry.column), key=_place_in_archive)
    divided: list[Sequence[Entry]] = list(_slices(files, rows))
    in_parquet = sorted((entry for entry in entries if entry.column), key=lambda entry: entry[1:5])
    unit: list[Entry] = []
    for _, group in itertools.groupby(in_parquet, _row_group):
        wanted = list(group)
        if unit and len(unit) + len(wanted) > rows:
            divided.append(unit)
            unit = []
        unit += wanted  # row groups with few wanted images, as after a split, share a task and a block
    return [*divided, unit] if unit else divided


def _place_in_archive(entry: Entry) -> tuple[str, int]:
    """Returns a key that sorts the files of an archive as they are stored: training's own order is random, and a task
    reads with one request what lies side by side."""
    return (entry.uri, entry.span.offset) if entry.span else ("", 0)


def _row_group(entry: Entry) -> tuple[str, str, int]:
    return entry.uri, entry.column, entry.row_group


def _read_task(unit: Sequence[Entry], image_size: int) -> ReadTask:
    metadata = BlockMetadata(
        num_rows=len(unit), size_bytes=len(unit) * image_bytes(image_size), input_files=None, exec_stats=None
    )
    return ReadTask(lambda: _read_at_low_priority(unit, image_size), metadata)


def _read_at_low_priority(unit: Sequence[Entry], image_size: int) -> Iterator[pa.Table]:
    lower_priority()
    return read_unit(unit, image_size)


def block_rows(image_size: int) -> int:
    """Returns the number of images in a full block."""
    return max(1, BLOCK_BYTES // image_bytes(image_size))


def read_unit(unit: Sequence[Entry], image_size: int) -> Iterator[pa.Table]:
    """Reads and decodes the images of one unit, block by block.

    Raises:
        OSError: the storage failed. A bad image does not raise: the table gives the reason.
    """
    fetched = fetch(unit, image_size)
    for entries in _slices(unit, block_rows(image_size)):
        pixels = np.zeros((len(entries), image_size, image_size, 3), np.uint8)
        reasons: list[str | None] = [None] * len(entries)
        for i, stored in enumerate(itertools.islice(fetched, len(entries))):
            try:
                pixels[i] = to_pixels(stored, image_size)
            except BadImage as error:
                reasons[i] = str(error)
        yield pa.table(
            {
                "image_id": pa.array([entry.image_id for entry in entries], pa.string()),
                "pixels": pixels_array(pixels),
                "reason": pa.array(reasons, pa.string()),
            }
        )


def _slices(entries: Sequence[Entry], rows: int) -> Iterator[Sequence[Entry]]:
    return (entries[i : i + rows] for i in range(0, len(entries), rows))


def fetch(unit: Sequence[Entry], image_size: int) -> Iterator[Stored]:
    """Yields what is stored for each entry of a unit: an encoded image, (S, S, 3) pixels, or why it cannot be read."""
    if unit[0].column:  # a unit has either row groups, or any mixture of image files and synthetic portraits
        for _, entries in itertools.groupby(unit, lambda entry: (entry.uri, entry.column)):
            yield from _fetch_rows(list(entries))
    elif any(storage.is_remote(entry.uri) for entry in unit):
        with ThreadPoolExecutor(_FETCHES) as threads:
            for stored in threads.map(lambda run: _fetch_run(run, image_size), _runs(unit)):
                yield from stored
    else:
        for run in _runs(unit):
            yield from _fetch_run(run, image_size)


def _runs(unit: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Divides a unit into what is read with one request each: adjacent files of an archive, or a file of its own."""
    run: list[Entry] = []
    spans: list[Span] = []
    for entry in unit:
        if run and not (spans and entry.span and entry.uri == run[0].uri and is_adjacent(spans, entry.span)):
            yield run
            run, spans = [], []
        run.append(entry)
        spans += [entry.span] if entry.span else []
    yield run


def _fetch_run(run: Sequence[Entry], image_size: int) -> Sequence[Stored]:
    first = run[0]
    if first.uri == SYNTHETIC:
        return [synthetic.portrait(first.row, image_size)]
    try:
        spans = [entry.span for entry in run if entry.span]
        return read_members(first.uri, spans) if spans else [storage.read(first.uri)]
    except FileNotFoundError:
        return [BadImage("the file has disappeared since it was listed")] * len(run)
    except PermissionError:
        return [BadImage("no permission to read the file")] * len(run)


def _fetch_rows(entries: Sequence[Entry]) -> Iterator[Stored]:
    """Yields what a column of one Parquet file holds for each entry."""
    uri, column = entries[0].uri, entries[0].column
    for stored in read_rows(uri, column, [(entry.row_group, entry.row) for entry in entries]):
        yield _square_pixels(stored) if column == PIXELS and isinstance(stored, bytes) else stored


def _square_pixels(value: bytes) -> Stored:
    side = round((len(value) / 3) ** 0.5)
    if not side or image_bytes(side) != len(value):
        return BadImage(f"{len(value)} bytes of pixels do not make a square RGB image")
    return np.frombuffer(value, np.uint8).reshape(side, side, 3)


def to_pixels(stored: Stored, image_size: int) -> NDArray[np.uint8]:
    """Returns what is stored as (image_size, image_size, 3) uint8; raises BadImage if it cannot be used."""
    if isinstance(stored, BadImage):
        raise stored
    if isinstance(stored, bytes):
        return decode(stored, image_size)
    if len(stored) == image_size:
        return stored
    check_dimensions((len(stored), len(stored)), image_size)
    return np.asarray(Image.fromarray(stored).resize((image_size, image_size), Image.Resampling.LANCZOS))
