"""Images of any form as Parquet shards of decoded pixels, once: what the driver of jobs/prepare.py does."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import RayError

from faceae import config, storage
from faceae.cluster import connection
from faceae.config import Source
from faceae.config.jobs import PrepareSettings
from faceae.console import Meter, count, out
from faceae.data import rejected
from faceae.data.manifest import MADE_BY, MANIFEST
from faceae.data.rejected import Rejected
from faceae.data.shards import FINISHED, ShardWriter, plan, read_record
from faceae.data.sources import Entry, list_sources
from faceae.data.split import choose
from faceae.errors import InputError, RunFailedError, one_line
from faceae.run_folder import RunFolder, versions

Manifest = dict[str, Any]
Record = dict[str, Any]

_READERS = 16  # concurrent requests for the small records of shards


def prepare(settings: PrepareSettings) -> Manifest:
    """Decodes images into a folder of Parquet shards as the README describes it.

    Args:
        settings: checked here, whoever made them.

    Returns:
        The content of manifest.json.

    Raises:
        InputError: the input is wrong.
        RunFailedError: the storage failed, or the cluster did; what is finished stays.
    """
    settings = config.validate(settings)
    folder = RunFolder(settings)
    listing = list_sources(settings.data.source, "--data.source")
    entries = choose(listing.entries, settings.data.limit)
    begun = _begin(folder, entries)
    if not begun["finished"]:
        _write_shards(folder, entries, listing.refused)
    _clear(folder)
    manifest: Manifest = storage.read_json(folder.path(MANIFEST))
    _say(manifest, folder)
    return manifest


def _begin(folder: RunFolder[PrepareSettings], entries: Sequence[Entry]) -> Manifest:
    """Opens the folder, with a manifest that says what is being prepared, or checks that it is still that.

    Returns:
        The manifest so far.

    Raises:
        InputError: the name is taken, nothing can be written, or what was begun cannot be continued.
    """
    settings = folder.settings
    manifest: Manifest = {
        "made_by": MADE_BY,
        "finished": False,
        "settings": {
            "source": list(settings.data.source),
            "image_size": settings.data.image_size,
            "limit": settings.data.limit,
        },
        "versions": versions("faceae", "pillow", "pyarrow"),
        "listing": {"images": len(entries), "sha256": hashlib.sha256(json.dumps(entries).encode()).hexdigest()},
    }
    resumed = folder.open()
    out.print(f"prepare   {folder.uri}" + (" (continued)" if resumed else ""))
    if not resumed or not storage.exists(folder.path(MANIFEST)):
        storage.write_json(folder.path(MANIFEST), manifest)
        return manifest
    begun: Manifest = storage.read_json(folder.path(MANIFEST))
    if begun["listing"] != manifest["listing"]:
        was, now = begun["listing"]["images"], manifest["listing"]["images"]
        raise InputError(
            f"--data.source: it has changed since {folder.name} was begun ({was} images then, {now} now, or others, or "
            "at other places in an archive); prepare it under another --run.name"
        )
    if begun["versions"] != manifest["versions"]:
        raise InputError(
            f"--run.name {folder.name}: it was begun with {_versions(begun)}, and here is {_versions(manifest)}, which "
            "may decode differently; go on with those, or begin under another name"
        )
    return begun


def _versions(manifest: Manifest) -> str:
    return ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())


def _write_shards(folder: RunFolder[PrepareSettings], entries: Sequence[Entry], refused: Sequence[Rejected]) -> None:
    """Writes the shards that are not finished, and the manifest of all.

    Raises:
        InputError: too many images cannot be used.
        RunFailedError: a shard could not be written.
    """
    data, uri = folder.settings.data, folder.uri
    shards = plan(entries, data.image_size, folder.settings.shard.megabytes)
    records = _records(uri)
    left = {name: shard for name, shard in shards.items() if name not in records}
    total = sum(len(shard) for shard in left.values())
    out.print(f"images    {len(entries)} in {' '.join(data.source)}, for {count(len(shards), 'shard')}")
    if records:
        out.print(f"resumed   {len(records)} of {len(shards)} shards are there, {count(total, 'image')} left")
    bad = _bad(records.values())
    try:
        with Meter("decoding", total) as meter:
            for images, more in _work(left, data.image_size, uri):
                bad += more
                rejected.check(bad, len(entries), folder)
                meter.add(images)
    except InputError:
        rejected.write(bad, refused, folder)
        raise
    if left:
        out.print(f"decoded   {meter.summary()}")
    records = _records(uri)
    if missing := sorted(set(shards) - set(records)):
        raise RunFailedError(
            f"{folder.path(missing[0])} was written but is not there; on several machines --run.storage must be a "
            "place that all of them reach"
        )
    _finish(folder, [records[name] for name in shards], refused)


def _work(shards: Mapping[str, Sequence[Entry]], image_size: int, uri: str) -> Iterator[tuple[int, list[Rejected]]]:
    """Writes shards on the cluster; yields how many images were read, again and again, and which of them are bad."""
    if not shards:
        return
    connection.connect(0)
    dataset = ray.data.read_datasource(ShardWriter(shards, image_size, uri), override_num_blocks=len(shards))
    dataset.context.enable_progress_bars = False
    dataset.context.target_max_block_size = 1  # what a task tells is passed on at once
    try:
        for said in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in said.to_pylist():
                yield row["images"], [(bad["image_id"], bad["reason"]) for bad in json.loads(row["rejected"])]
    except (RayError, OSError) as error:
        raise RunFailedError(
            f"{one_line(error)}; the shards that are finished stay: mend this and go on with --run.resume"
        ) from None


def _records(uri: str) -> dict[str, Record]:
    """What is known of the finished shards, by their names."""
    names = [name.removesuffix(".json") for name in storage.list_files(storage.join(uri, FINISHED), missing_ok=True)]
    with ThreadPoolExecutor(_READERS) as threads:
        records = threads.map(lambda name: read_record(uri, name), names)
        return dict(zip(names, records, strict=True))


def _bad(records: Iterable[Record]) -> list[Rejected]:
    return [(bad["image_id"], bad["reason"]) for record in records for bad in record["rejected"]]


def _finish(folder: RunFolder[PrepareSettings], records: Sequence[Record], refused: Sequence[Rejected]) -> None:
    """Writes the list of the rejected, and the manifest, with which the set is whole."""
    bad = _bad(records)
    rejected.write(bad, refused, folder)
    images = sum(record["rows"] for record in records)
    if not images:
        raise InputError(f"--data.source: no usable image; all are listed in {folder.path(rejected.FILE)}")
    manifest = storage.read_json(folder.path(MANIFEST)) | {
        "finished": True,
        "counts": {
            "read": images + len(bad) + len(refused),
            "rejected": len(bad) + len(refused),
            "images": images,
        },
        "images_sha256_sum": f"{sum(int(record['images_sha256_sum'], 16) for record in records) % 2**256:064x}",
        "shards": [{key: record[key] for key in ("name", "rows", "bytes", "sha256")} for record in records],
    }
    storage.write_json(folder.path(MANIFEST), manifest)


def _clear(folder: RunFolder[PrepareSettings]) -> None:
    """Removes what only a continuation needs, and half-written files of processes that were killed."""
    files = storage.list_files(folder.uri)
    for name in files:
        if name.endswith(storage.PARTIAL):
            storage.delete(folder.path(name))
    if any(name.startswith(f"{FINISHED}/") for name in files):
        storage.delete_folder(folder.path(FINISHED))


def _say(manifest: Manifest, folder: RunFolder[PrepareSettings]) -> None:
    shards, size = manifest["shards"], folder.settings.data.image_size
    megabytes = sum(shard["bytes"] for shard in shards) / 1e6
    given = ["--data.source", folder.uri] + (["--data.image-size", str(size)] if size != Source().image_size else [])
    out.print(
        f"written   {count(manifest['counts']['images'], 'image')}, {megabytes:.1f} MB in {count(len(shards), 'shard')}"
    )
    out.print(f"manifest  {folder.path(MANIFEST)}")
    out.print(f"train     faceae train {shlex.join(given)}")
