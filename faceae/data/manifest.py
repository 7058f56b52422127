"""The manifest of prepared images: names the Parquet shards of the set, so that missing or other ones are noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Literal

from pyarrow import ArrowException
from pydantic import NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from faceae import storage
from faceae.console import Meter, count, out
from faceae.errors import InputError

MANIFEST = "manifest.json"
MADE_BY = "jobs/prepare.py"
"""The value of `made_by` in our manifests; other programs also write files named manifest.json."""

_READERS = 8  # threads that compare digests
_PIECE = 8 * 2**20  # bytes that each reads at a time


@dataclass(frozen=True)
class _Record:
    name: str
    rows: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str


@dataclass(frozen=True)
class _Made:
    image_size: PositiveInt


@dataclass(frozen=True)
class _Manifest:
    finished: bool
    settings: _Made
    shards: tuple[_Record, ...] = ()


@dataclass(frozen=True)
class Shard:
    """What the manifest says of a shard.

    Attributes:
        rows: number of images.
        bytes: size of the file.
        sha256: digest of the file, hexadecimal.
        pixel_bytes: size of an image's pixels in bytes.
    """

    rows: int
    bytes: int
    sha256: str
    pixel_bytes: int

    def check(self, uri: str, what: Literal["rows", "bytes", "sha256", "pixel_bytes"], found: int | str) -> None:
        """Raises InputError if the shard at `uri` differs from the manifest."""
        if found != (expected := getattr(self, what)):
            raise InputError(
                f"{uri}: damaged, or of another set: {what} {found} instead of {expected}, says {MANIFEST}; "
                "copy it again"
            )


def prepared(folder: str, files: Sequence[str]) -> dict[str, Shard]:
    """Returns the shards in a folder that jobs/prepare.py wrote, by name; none for any other folder.

    Args:
        folder: URI of the folder.
        files: names of the files in it.

    Raises:
        InputError: the preparation is unfinished, a shard is missing, or the manifest cannot be read.
    """
    if MANIFEST not in files:
        return {}
    uri = storage.join(folder, MANIFEST)
    try:
        tree = storage.read_json(uri)
    except (OSError, ArrowException) as error:
        raise storage.explain(error, uri) from None
    except ValueError as error:
        if not any(name.endswith(".parquet") for name in files):
            return {}
        raise InputError(
            f"{uri}: is damaged ({error}); copy it again, or delete it if {MADE_BY} did not write it"
        ) from None
    if not isinstance(tree, dict) or tree.get("made_by") != MADE_BY:
        return {}
    try:
        manifest = TypeAdapter(_Manifest).validate_python(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(
            f"{uri}: is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}); copy it again"
        ) from None
    if not manifest.finished:
        storage_uri, name = folder.rsplit("/", 1)
        again = f"faceae prepare --run.storage {storage_uri} --run.name {name} --run.resume"
        raise InputError(f"{folder}: the preparation of these images is unfinished; finish it with `{again}`")
    pixel_bytes = 3 * manifest.settings.image_size**2
    shards = {one.name: Shard(one.rows, one.bytes, one.sha256, pixel_bytes) for one in manifest.shards}
    if missing := sorted(shards.keys() - set(files)):
        raise InputError(
            f"{folder}: {len(missing)} of its {len(shards)} shards are missing, such as {missing[0]}; copy them again"
        )
    return shards


def verify(folder: str, shards: Mapping[str, Shard]) -> None:
    """Compares the content of shards with the digests in the manifest, several shards at a time; reports progress.

    Args:
        folder: URI of the folder.
        shards: the shards, as `prepared` returns them.

    Raises:
        InputError: a shard differs, or cannot be read.
    """
    images = sum(shard.rows for shard in shards.values())
    with ThreadPoolExecutor(_READERS) as threads, Meter("verifying", images) as meter:
        works = {threads.submit(_verify, storage.join(folder, name), shard): shard for name, shard in shards.items()}
        try:
            for work in as_completed(works):
                work.result()
                meter.add(works[work].rows)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    out.print(f"verified  {count(len(shards), 'shard')} in {folder}: {meter.summary()}")


def _verify(uri: str, shard: Shard) -> None:
    digest = hashlib.sha256()
    try:
        for start in range(0, shard.bytes, _PIECE):
            digest.update(storage.read(uri, start, _PIECE))
    except (OSError, ArrowException) as error:
        raise storage.explain(error, uri) from None
    shard.check(uri, "sha256", digest.hexdigest())
