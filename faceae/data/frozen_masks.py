"""The masks of an evaluation in a Parquet file, so that another evaluation, or another program, has the same holes.

The file has a row for each mask, in the columns of `SCHEMA`: image_id; kind and size, which only say how it was drawn
(size in pixels, null for kinds without one); seed; height and width in pixels; and bits, the mask itself, row by row,
one bit a pixel, lowest bit first, 1 inside the hole, the last byte filled up with zeros. docs/usage.md shows how to
read it. In memory the bits are compressed: a box on a picture of 1350x1350 takes 1 kB instead of 228.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceae import storage
from faceae.data.images import MAX_PIXELS
from faceae.data.tables import raise_if_storage_failed, refuse_objects
from faceae.errors import InputError, one_line

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("kind", pa.string()),
        ("size", pa.int32()),
        ("seed", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("bits", pa.binary()),
    ]
)
"""The columns of the file, and of tables of masks in memory, where the bits are compressed."""

_CODEC = pa.Codec("lz4")
_GROUP_BYTES = 16 * 2**20  # bits in a row group of the file that is written
_AT_ONCE = 16  # rows read at a time, each of which may have `MAX_PIXELS` bits

Row = dict[str, Any]
"""A row of a table of masks."""


def row(image_id: str, kind: str, size: int | None, seed: int | None, height: int, width: int, bits: bytes) -> Row:
    """Returns the row of a mask; its bits, as they are in the file, are compressed."""
    values = (image_id, kind, size, seed, height, width, _CODEC.compress(bits, asbytes=True))
    return dict(zip(SCHEMA.names, values, strict=True))


def bits(row: Mapping[str, Any]) -> bytes:
    """Returns the bits of a row's mask as they are in the file."""
    return _CODEC.decompress(row["bits"], -(-row["height"] * row["width"] // 8), asbytes=True)


def unpacked(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Returns the mask of a row, (H, W) bool, True inside the hole."""
    height, width = row["height"], row["width"]
    flat = np.unpackbits(np.frombuffer(bits(row), np.uint8), count=height * width, bitorder="little")
    return flat.view(np.bool_).reshape(height, width)


def digest(table: pa.Table) -> str:
    """Returns a SHA-256 of masks and the images that they belong to; docs/usage.md shows how to compute it.

    It depends on image_id, height, width and bits, and neither on the order of the rows nor on Parquet.
    """
    return hashlib.sha256(b"".join(sorted(map(_row_digest, _rows(table))))).hexdigest()


def _row_digest(row: Row) -> bytes:
    return hashlib.sha256(f"{row['image_id']}\0{row['height']}\0{row['width']}\0".encode() + bits(row)).digest()


def _rows(table: pa.Table) -> Iterator[Row]:
    return (row for batch in table.select(SCHEMA.names).to_batches(256) for row in batch.to_pylist())


def write(uri: str, table: pa.Table) -> None:
    """Writes a table of masks to a Parquet file, in the table's order."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd", use_dictionary=["kind"]) as writer:
        group: list[Row] = []
        left = _GROUP_BYTES
        for each in _rows(table):
            group.append(each | {"bits": bits(each)})
            left -= len(group[-1]["bits"])
            if left <= 0:
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
                group, left = [], _GROUP_BYTES
        writer.write_table(pa.Table.from_pylist(group, SCHEMA))
    storage.write(uri, memoryview(sink.getvalue()))


@storage.retry_outages
def read(uri: str) -> pa.Table:
    """Reads masks from a file that `write`, or another program, has written.

    Raises:
        InputError: there is no such file, it is damaged or of another kind, or a mask in it cannot be used.
        OSError: the storage failed.
    """
    storage.info(uri)
    filesystem, path = storage.resolve(uri)
    try:
        with filesystem.open_input_file(path) as source, pq.ParquetFile(source) as file:
            _check_columns(file.schema_arrow)
            batches = file.iter_batches(_AT_ONCE, columns=SCHEMA.names)
            rows = [_compressed(row) for batch in batches for row in _cast(batch).to_pylist()]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise_if_storage_failed(uri, error)
        raise InputError(f"{uri}: is no file of masks, or damaged ({one_line(error)})") from None
    except InputError as error:
        raise InputError(f"{uri}: {error}") from None
    _check_names(rows, uri)
    return pa.Table.from_pylist(rows, SCHEMA)


def _check_columns(schema: pa.Schema) -> None:
    for name in SCHEMA.names:
        if (at := schema.get_field_index(name)) < 0:  # also where two columns have the name
            raise InputError(f"has no column {name}; name the masks.parquet of an evaluation")
        refuse_objects(schema.field(at).type, f"the column {name}")


def _cast(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)


def _compressed(stored: Row) -> Row:
    """Returns a row of the file with its bits compressed; raises InputError if its mask cannot be used."""
    name, height, width, found = stored["image_id"], stored["height"], stored["width"], stored["bits"]
    if not name or "\0" in name or stored["kind"] is None or height is None or width is None or found is None:
        raise InputError("a mask in it has no image_id, kind, height, width or bits")
    if fault := _fault(height, width, found):
        raise InputError(f"the mask of {name[:200]} {fault}")
    return row(**stored)


def _fault(height: int, width: int, found: bytes) -> str | None:
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        return f"is {width}x{height} pixels; up to {MAX_PIXELS // 1_000_000} million are allowed"
    if len(found) != -(-height * width // 8):
        return f"has {len(found)} bytes of bits, not {-(-height * width // 8)} for {width}x{height} pixels"
    flat = np.unpackbits(np.frombuffer(found, np.uint8), bitorder="little")
    if flat[height * width :].any():
        return "has bits after its last pixel; they must be 0"
    hidden = int(flat.sum(dtype=np.int64))
    if not hidden:
        return "hides nothing"
    return "hides the whole picture" if hidden == height * width else None


def _check_names(rows: Sequence[Row], uri: str) -> None:
    if not rows:
        raise InputError(f"{uri}: has no masks")
    keys = set()
    for each in rows:
        key = each["image_id"], each["kind"], each["size"]
        if key in keys:
            raise InputError(f"{uri}: has two masks of {key[0][:200]} of the same kind and size")
        keys.add(key)
