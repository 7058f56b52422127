"""Lists the images of a source: one `Entry` for each image of a URI, without reading any pixels.

The driver lists every source before any worker starts. So a wrong path is reported within seconds, the split and the
sample of `--data.limit` are exact, and every worker knows the same images in the same order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from faceae import storage
from faceae.console import LOG_EVERY_S, count, out
from faceae.data.archives import Span, is_archive, list_members
from faceae.data.images import EXTENSIONS
from faceae.data.manifest import prepared
from faceae.errors import InputError

SYNTHETIC = "synthetic:"
_LISTING_THREADS = 16  # listing reads small footers and headers: the store limits it, not the processor


class Entry(NamedTuple):
    """The place where one image is stored.

    Attributes:
        image_id: name of the image, wherever it is stored: its path in the folder or archive, or the value of the
            Parquet table's own `image_id` (or `path`) column.
        uri: the file that holds the image; `synthetic:` for a synthetic portrait.
        column: the column of a Parquet file that holds the image; empty for an image file, in an archive or not.
        row_group: index of the row group in a Parquet file.
        row: index of the row in the row group; for a synthetic portrait its number.
        span: the bytes of an archive that hold the image; None if the image is in no archive.
    """

    image_id: str
    uri: str
    column: str = ""
    row_group: int = 0
    row: int = 0
    span: Span | None = None


class Listing(NamedTuple):
    """The images of a source.

    Attributes:
        entries: the images; no two have the same id.
        refused: (image_id, reason) of files that only look like images; they are listed with the rejected images, but
            do not count against `--data.max-rejected-fraction`.
    """

    entries: list[Entry]
    refused: list[tuple[str, str]]


def list_sources(uris: Sequence[str], flag: str) -> Listing:
    """Lists all images of the given sources.

    Args:
        uris: image, zip, tar or Parquet files, folders of any of these, or `synthetic:N`; local or remote.
        flag: the setting that the URIs come from, for error messages.

    Raises:
        InputError: a source is missing, cannot be read, is of an unknown kind or holds no image, or two images have the
            same id.
    """
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    for uri in uris:
        try:
            listing = _list_source(uri)
        except InputError as error:
            raise InputError(f"{flag} {error}") from None
        if not listing.entries:
            kinds = ", ".join(sorted(EXTENSIONS))
            raise InputError(f"{flag} {uri}: there are no images ({kinds}) and no .parquet, .zip or .tar files in it")
        # Different sources may use the same names for different images.
        prefix = f"{_name(uri)}/" if len(uris) > 1 else ""
        entries += [entry._replace(image_id=prefix + entry.image_id) for entry in listing.entries]
        refused += [(prefix + image_id, reason) for image_id, reason in listing.refused]
    _check_unique(entries, flag)
    return Listing(entries, refused)


def _list_source(uri: str) -> Listing:
    if uri.startswith(SYNTHETIC):
        return _list_synthetic(uri)
    uri = storage.absolute(uri)
    at = storage.info(uri)
    if at.type == FileType.File:
        folder, name = uri.rsplit("/", 1)
        files = [name]
    else:  # a folder, or nothing: then listing it raises the error
        folder, files = uri, storage.list_files(uri)
    if parquet := prepared(folder, files) or [name for name in files if name.lower().endswith(".parquet")]:
        return _list_each(_list_parquet, folder, parquet)
    archives = [name for name in files if is_archive(name) and not _is_apple_double(name)]
    images = _list_images((name, storage.join(folder, name), None) for name in files)
    if archives and not images.entries:
        return _list_each(_list_archive, folder, archives)
    if at.type == FileType.File and PurePosixPath(uri).suffix.lower() not in EXTENSIONS:
        raise InputError(f"{uri}: is neither a folder, nor a .zip, .tar or .parquet file, nor an image")
    images.refused.extend(
        (name, "an archive among images is not read; give it as a source of its own") for name in archives
    )
    return images


def _list_synthetic(uri: str) -> Listing:
    number = uri.removeprefix(SYNTHETIC)
    if not re.fullmatch("[1-9][0-9]{0,6}", number):
        raise InputError(f"{uri}: write how many portraits to draw, from 1 to 9999999, as in {SYNTHETIC}1500")
    return Listing([Entry(f"synthetic-{i:06d}", SYNTHETIC, row=i) for i in range(int(number))], [])


def _list_images(files: Iterable[tuple[str, str, Span | None]]) -> Listing:
    """Lists the images among files, each given as its name, the URI of the file that holds it, and its span there."""
    listing = Listing([], [])
    for name, uri, span in files:
        if PurePosixPath(name).suffix.lower() not in EXTENSIONS:
            continue
        if _is_apple_double(name):
            listing.refused.append((name, "an AppleDouble file of macOS (._*), which holds attributes, not an image"))
        else:
            listing.entries.append(Entry(name, uri, span=span))
    return listing


def _is_apple_double(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name.startswith("._") or "__MACOSX" in path.parts


def _list_each(list_file: Callable[[str, str], Listing], folder: str, files: list[str]) -> Listing:
    """Lists files that hold many images each, several files at a time; reports progress if that takes long."""
    with ThreadPoolExecutor(_LISTING_THREADS) as threads:
        listings = [threads.submit(list_file, storage.join(folder, name), name) for name in files]
        while wait(listings, LOG_EVERY_S, FIRST_EXCEPTION).not_done:
            done = [listing for listing in listings if listing.done()]
            if any(listing.exception() for listing in done):
                threads.shutdown(cancel_futures=True)
                break
            out.print(f"listing   {len(done)} of {count(len(files), 'file')} in {folder}")
        whole = Listing([], [])
        for listing in listings:
            entries, refused = listing.result()
            whole.entries.extend(entries)
            whole.refused.extend(refused)
    return whole


def _list_archive(uri: str, name: str) -> Listing:
    try:
        return _list_images((member, uri, span) for member, span in list_members(uri))
    except (OSError, pa.ArrowException) as error:
        raise storage.explain(error, uri) from None


def _list_parquet(uri: str, name: str) -> Listing:
    filesystem, path = storage.resolve(uri)
    try:
        with pq.ParquetFile(filesystem.open_input_file(path)) as file:
            column, id_path = _image_column(file.schema_arrow, uri)
            for read in filter(None, (column, id_path)):
                _refuse_objects(file.schema_arrow.field(read.partition(".")[0]).type, read, uri)
            entries = []
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                ids = _read_ids(file, group, id_path) if id_path else [None] * rows
                entries += [
                    Entry(str(ids[row] or f"{name}/{group}/{row}"), uri, column, group, row) for row in range(rows)
                ]
            return Listing(entries, [])
    except (OSError, pa.ArrowException) as error:
        raise storage.explain(error, uri) from None


def _read_ids(file: pq.ParquetFile, group: int, id_path: str) -> list[str | None]:
    column = file.read_row_group(group, columns=[id_path])[0]
    return (pc.struct_field(column, "path") if pa.types.is_struct(column.type) else column).to_pylist()


def _image_column(schema: pa.Schema, uri: str) -> tuple[str, str | None]:
    """Returns the column with the images, and the column or field with their ids (None if there is none)."""
    for name in ("pixels", "image", "bytes", "image_bytes", "jpg", "png"):
        kind = schema.field(name).type if name in schema.names else pa.null()
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:  # as Hugging Face stores images
            return name, f"{name}.path" if kind.get_field_index("path") >= 0 else None
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            return name, next((c for c in ("image_id", "path", "file_name", "__key__") if c in schema.names), None)
    raise InputError(
        f"{uri}: no column holds images; expected `image` (binary, or Hugging Face's struct of bytes and path) "
        f"or `pixels`, found {', '.join(schema.names)}"
    )


def _refuse_objects(kind: pa.DataType, column: str, uri: str) -> None:
    """Raises InputError for Arrow extension types.

    Ray registers one whose values are pickles (`ray.data.arrow_pickled_object`), and which unpickles them when they are
    read: a Parquet file from somebody else would run code.
    """
    if isinstance(kind, pa.BaseExtensionType):
        raise InputError(f"{uri}: the column {column} is of the type {kind}; store plain strings and bytes instead")
    for number in range(kind.num_fields):
        _refuse_objects(kind.field(number).type, column, uri)
    if pa.types.is_dictionary(kind):
        _refuse_objects(kind.value_type, column, uri)


def _name(uri: str) -> str:
    return re.sub(r"[^\w.-]+", "_", uri.rstrip("/").rsplit("/", 1)[-1])


def _check_unique(entries: list[Entry], flag: str) -> None:
    image_id, count = Counter(entry.image_id for entry in entries).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{flag}: {count} images have the id {image_id!r}; masks and the split depend on ids, so give each its own "
            "(or give sources whose last parts differ, such as each archive of a folder)"
        )
