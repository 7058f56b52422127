"""Lists the images of a source: one `Entry` for each image of a URI, without reading any pixels.

The driver lists every source before any worker starts. So a wrong path is reported within seconds, the split and the
sample of `--data.limit` are exact, and every worker knows the same images in the same order.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow as pa
from pyarrow.fs import FileType

from faceae import storage
from faceae.console import LOG_EVERY_S, count, out
from faceae.data.archives import Span, is_archive, list_members
from faceae.data.images import EXTENSIONS, BadImage
from faceae.data.manifest import MANIFEST, Shard, prepared, verify
from faceae.data.tables import list_images
from faceae.errors import InputError

SYNTHETIC = "synthetic:"
_LONGEST_ID = 4096  # characters; as long as a path may be
_LISTING_THREADS = 16  # listing reads small footers and headers: the store limits it, not the processor


class Entry(NamedTuple):
    """The place where one image is stored.

    Attributes:
        image_id: name of the image, wherever it is stored: its path in the folder or archive, or the value of the
            Parquet table's own `image_id` (or `path`) column.
        uri: the file that holds the image; `synthetic:` for a synthetic portrait.
        column: the column or field of a Parquet file that holds the image; empty for an image file.
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


def digest(entries: Sequence[Entry], stamps: Mapping[str, tuple[int, int]] | None = None) -> str:
    """Returns a SHA-256 of the images' ids and places within their files, to recognize a source that has changed.

    URIs and the content of files do not count, so the same files copied elsewhere are the same source.

    Args:
        entries: the images.
        stamps: sizes and times of the files, see `storage.stamps`; given, they count, too, so that an image which was
            edited under the same name is noticed.
    """
    hashed = hashlib.sha256()
    for image_id, uri, *place in entries:
        hashed.update(json.dumps([image_id, *place, (stamps or {}).get(uri)]).encode() + b"\n")
    return hashed.hexdigest()


def list_sources(uris: Sequence[str], flag: str, verified: bool = False) -> Listing:
    """Lists all images of the given sources.

    Args:
        uris: image, zip, tar or Parquet files, folders of any of these, or `synthetic:N`; local or remote.
        flag: the setting that the URIs come from, for error messages.
        verified: whether to compare prepared sets with the digests in their manifests first, which reads them whole.

    Raises:
        InputError: a source is missing, cannot be read, is of an unknown kind or holds no image, or two images have the
            same id.
    """
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    for uri in uris:
        try:
            listing = _list_source(uri, verified)
        except InputError as error:
            raise InputError(f"{flag} {error}") from None
        if not listing.entries and listing.refused:
            name, reason = listing.refused[0]
            raise InputError(f"{flag} {uri}: none of its {len(listing.refused)} images can be used; {name}: {reason}")
        if not listing.entries:
            kinds = ", ".join(sorted(EXTENSIONS))
            raise InputError(f"{flag} {uri}: there are no images ({kinds}) and no .parquet, .zip or .tar files in it")
        # Different sources may use the same names for different images.
        prefix = f"{_name(uri)}/" if len(uris) > 1 else ""
        entries += [entry._replace(image_id=prefix + entry.image_id) for entry in listing.entries]
        refused += [(prefix + image_id, reason) for image_id, reason in listing.refused]
    _check_unique(entries, flag)
    return Listing(entries, refused)


def _list_source(uri: str, verified: bool) -> Listing:
    if uri.startswith(SYNTHETIC):
        return _list_synthetic(uri)
    uri = storage.absolute(uri)
    at = storage.info(uri)
    if at.type == FileType.File:
        folder, name = uri.rsplit("/", 1)
        files = [name]
    else:  # a folder, or nothing: then listing it raises the error
        folder, files = uri, storage.list_files(uri)
    shards = prepared(folder, files)
    if verified and shards:
        verify(folder, shards)
    elif verified:
        out.print(f"note      {uri} has no {MANIFEST} of `faceae prepare`: there are no digests to verify")
    if parquet := list(shards) or [name for name in files if name.lower().endswith(".parquet")]:
        return _list_each(functools.partial(_list_parquet, shards=shards), folder, parquet)
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


def _list_images(files: Iterable[tuple[str, str, Span | BadImage | None]]) -> Listing:
    """Lists the images among files.

    Each is given as its name, the URI of the file that holds it, and its span there or why it cannot be read.
    """
    listing = Listing([], [])
    for name, uri, span in files:
        if PurePosixPath(name).suffix.lower() not in EXTENSIONS:
            continue
        if _is_apple_double(name):
            fault: str | None = "an AppleDouble file of macOS (._*), which holds attributes, not an image"
        else:
            fault = str(span) if isinstance(span, BadImage) else None
        _add(listing, Entry(name, uri, span=None if isinstance(span, BadImage) else span), fault)
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


def _list_parquet(uri: str, name: str, shards: Mapping[str, Shard]) -> Listing:
    try:
        column, groups = list_images(uri, shards.get(name))
    except (OSError, pa.ArrowException) as error:
        raise storage.explain(error, uri) from None
    listing = Listing([], [])
    for group, ids in enumerate(groups):
        for row, image_id in enumerate(ids):
            _add(listing, Entry(image_id or f"{name}/{group}/{row}", uri, column, group, row))
    return listing


def _add(listing: Listing, entry: Entry, fault: str | None = None) -> None:
    """Adds an image to a listing; one with a fault, or with a name that cannot serve as an id, to what it refuses."""
    name = entry.image_id
    if len(name) > _LONGEST_ID:
        name, fault = f"{name[:100]}...", f"its name has more than {_LONGEST_ID} characters"
    elif "\0" in name:
        fault = "there is a NUL in its name"
    elif not storage.is_text(name):
        fault = "its name is not UTF-8; rename it"
    if fault:
        listing.refused.append((storage.shown(name), fault))
    else:
        listing.entries.append(entry)


def _name(uri: str) -> str:
    return re.sub(r"[^\w.-]+", "_", uri.rstrip("/").rsplit("/", 1)[-1])


def _check_unique(entries: list[Entry], flag: str) -> None:
    image_id, count = Counter(entry.image_id for entry in entries).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{flag}: {count} images have the id {image_id!r}; masks and the split depend on ids, so give each its own "
            "(or give sources whose last parts differ, such as each archive of a folder)"
        )
