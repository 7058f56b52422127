"""Lists the images in Parquet files, and reads them: encoded images, or decoded pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceae import storage
from faceae.data.images import BadImage
from faceae.data.manifest import Shard
from faceae.errors import InputError, one_line

PIXELS = "pixels"
"""The column of decoded pixels."""

_COLUMNS = (PIXELS, "image", "bytes", "image_bytes", "jpg", "png")
_IDS = ("image_id", "path", "file_name", "__key__")


class Images(NamedTuple):
    """The images of a Parquet file.

    Attributes:
        column: the column or field that holds them.
        ids: for each row group, the name of each of its images; None where the file has no name.
    """

    column: str
    ids: list[list[str | None]]


@storage.retry_outages
def list_images(uri: str, shard: Shard | None) -> Images:
    """Lists the images of a Parquet file; reads its footer, and the column of ids if it has one.

    Args:
        uri: the file.
        shard: what a manifest says of the file, which is then compared; None if there is no manifest.

    Raises:
        InputError: the file is damaged, differs from the manifest, or holds no images.
        OSError: the storage failed.
    """
    filesystem, path = storage.resolve(uri)
    with filesystem.open_input_file(path) as source:
        if shard:
            shard.check(uri, "bytes", source.size())
        try:
            with pq.ParquetFile(source) as file:
                schema = file.schema_arrow
                column, ids = _image_column(schema, uri)
                for read in filter(None, (column, ids)):
                    refuse_objects(schema.field(read.partition(".")[0]).type, f"{uri}: the column {read}")
                if shard:
                    shard.check(uri, "rows", file.metadata.num_rows)
                    shard.check(uri, "pixel_bytes", getattr(schema.field(column).type, "byte_width", 0))
                groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                if min(groups, default=0) < 0 or sum(groups) > source.size():
                    raise InputError(
                        f"{uri}: is damaged (it claims to have {sum(groups)} rows); fetch or make it again"
                    )
                return Images(column, [_ids(file, group, rows, ids) for group, rows in enumerate(groups)])
        except (pa.ArrowException, OSError, ValueError) as error:
            raise_if_storage_failed(uri, error)
            raise InputError(f"{uri}: is incomplete or damaged ({one_line(error)}); fetch or make it again") from None


def _ids(file: pq.ParquetFile, group: int, rows: int, path: str | None) -> list[str | None]:
    if path is None:
        return [None] * rows
    column = file.read_row_group(group, columns=[path])[0]
    if "." in path and pa.types.is_struct(column.type):
        column = pc.struct_field(column, 0)
    try:
        ids = column.to_pylist()
    except UnicodeDecodeError:
        ids = [value and value.decode(errors="surrogateescape") for value in column.cast(pa.binary()).to_pylist()]
    if len(ids) != rows:
        raise ValueError(f"{len(ids)} ids for {rows} rows")
    return [str(value) if value else None for value in ids]


def _image_column(schema: pa.Schema, uri: str) -> tuple[str, str | None]:
    """Returns the column or field with the images, and the one with their ids (None if there is none)."""
    for name in _COLUMNS:
        at = schema.get_field_index(name)  # -1 also where two columns have the name
        kind = schema.field(at).type if at >= 0 else pa.null()
        if pa.types.is_struct(kind) and (at := kind.get_field_index("bytes")) >= 0 and _is_binary(kind.field(at).type):
            return f"{name}.bytes", f"{name}.path" if kind.get_field_index("path") >= 0 else None  # Hugging Face's form
        if _is_binary(kind):
            return name, next((column for column in _IDS if schema.get_field_index(column) >= 0), None)
    found = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise InputError(
        f"{uri}: no column holds images; expected `image` (binary, or Hugging Face's struct of bytes and path) "
        f"or `pixels`, found {found[:300]}"
    )


def _is_binary(kind: pa.DataType) -> bool:
    # An extension type over bytes is none: reading it may do more than read, see below.
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def refuse_objects(kind: pa.DataType, where: str) -> None:
    """Raises InputError for Arrow extension types; `where` names the column in its message.

    Ray registers one whose values are pickles (`ray.data.arrow_pickled_object`), and which unpickles them when they are
    read: a Parquet file from somebody else would run code.
    """
    if isinstance(kind, pa.BaseExtensionType):
        raise InputError(f"{where} is of the type {kind}; store plain strings and bytes instead")
    for number in range(kind.num_fields):
        refuse_objects(kind.field(number).type, where)
    if pa.types.is_dictionary(kind):
        refuse_objects(kind.value_type, where)


def read_rows(uri: str, column: str, rows: Sequence[tuple[int, int]]) -> Iterator[bytes | BadImage]:
    """Reads images of one Parquet file; opens it and reads its footer once, and each row group once.

    Args:
        uri: the file.
        column: the column or field with the images, see `Images`.
        rows: for each image the index of its row group, and of its row therein; those of one group side by side.

    Yields:
        For each image the bytes that are stored, or why they cannot be used.

    Raises:
        OSError: the storage failed.
    """
    try:
        file = _open(uri)
    except (FileNotFoundError, pa.ArrowException) as error:
        yield from [BadImage(f"the table has changed since it was listed: {one_line(error)}")] * len(rows)
        return
    with file:
        for group, in_group in itertools.groupby(rows, lambda row: row[0]):
            values = _read_group(uri, file, group, column)
            for _, row in in_group:
                yield values if isinstance(values, BadImage) else _value(values, row)


def _value(values: pa.ChunkedArray, row: int) -> bytes | BadImage:
    value: bytes | None = values[row].as_py()
    return BadImage("the table has no bytes for this image") if value is None else value


def _read_group(uri: str, file: pq.ParquetFile, group: int, column: str) -> pa.ChunkedArray | BadImage:
    """Returns the images of a row group, or why none of them can be read."""
    try:
        values = _read_column(uri, file, group, column)
        if len(values) != (rows := file.metadata.row_group(group).num_rows):
            return BadImage(f"the table is damaged in its row group {group}: {len(values)} images instead of {rows}")
        return pc.struct_field(values, 0) if pa.types.is_struct(values.type) else values
    except (pa.ArrowException, OSError, IndexError) as error:
        raise_if_storage_failed(uri, error)
        return BadImage(f"the table is damaged in its row group {group}: {one_line(error)}")


@storage.retry_outages
def _open(uri: str) -> pq.ParquetFile:
    filesystem, path = storage.resolve(uri)
    return pq.ParquetFile(filesystem.open_input_file(path), pre_buffer=True)


@storage.retry_outages
def _read_column(uri: str, file: pq.ParquetFile, group: int, column: str) -> pa.ChunkedArray:
    return file.read_row_group(group, columns=[column])[0]


def raise_if_storage_failed(uri: str, error: Exception) -> None:
    """Raises an error of the storage again; pyarrow raises OSError for damaged content, too.

    Raises:
        OSError: the storage failed.
    """
    if isinstance(error, OSError):
        if error.errno or "AWS Error" in str(error):
            raise error
        storage.read(uri, length=1)  # fails as long as the store does
