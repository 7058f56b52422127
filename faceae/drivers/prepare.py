"""The driver of jobs/prepare.py: decodes images in any format once, into Parquet shards of pixels."""

from __future__ import annotations

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
from faceae.data.sources import Entry, digest, list_sources
from faceae.data.split import choose
from faceae.errors import InputError, RunFailedError, one_line
from faceae.run_folder import RunFolder, versions

Manifest = dict[str, Any]
Record = dict[str, Any]

_BEGUN = {"finished", "listing", "versions"}  # what continuing needs of a manifest
_READERS = 16  # concurrent reads of the shards' small records


def prepare(settings: PrepareSettings) -> Manifest:
    """Decodes images into a folder of Parquet shards, as docs/usage.md describes it.

    Args:
        settings: the job's settings; validated here.

    Returns:
        The content of manifest.json.

    Raises:
        InputError: the input is wrong.
        RunFailedError: the storage or the cluster failed; finished shards stay.
    """
    settings = config.validate(settings)
    folder = RunFolder(settings)
    listing = list_sources(settings.data.source, "--data.source", settings.data.verify)
    entries = choose(listing.entries, settings.data.limit)
    with folder.hold():
        begun = _begin(folder, entries)
        if not begun["finished"]:
            _write_shards(folder, entries, listing.refused)
        _clear(folder)
        manifest: Manifest = storage.read_json(folder.path(MANIFEST))
    _print_result(manifest, folder)
    return manifest


def _begin(folder: RunFolder[PrepareSettings], entries: Sequence[Entry]) -> Manifest:
    """Opens the folder and writes a manifest of what is being prepared, or checks that the one there matches.

    Returns:
        The manifest so far.

    Raises:
        InputError: the name is taken, the folder cannot be written, or the earlier preparation cannot be continued.
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
        "listing": {"images": len(entries), "sha256": digest(entries)},
    }
    resumed = folder.open()
    out.print(f"prepare   {folder.uri}" + (" (continued)" if resumed else ""))
    if not resumed or not storage.exists(folder.path(MANIFEST)):
        storage.write_json(folder.path(MANIFEST), manifest)
        return manifest
    begun = _read_begun(folder)
    if begun["listing"] != manifest["listing"]:
        was, now = begun["listing"]["images"], manifest["listing"]["images"]
        raise InputError(
            f"--data.source: it has changed since {folder.name} was begun ({was} images then, {now} now; names and "
            "places in an archive may differ, too); prepare it under another --run.name"
        )
    if begun["versions"] != manifest["versions"]:
        raise InputError(
            f"--run.name {folder.name}: it was begun with {_versions(begun)}; {_versions(manifest)} are installed here "
            "and may decode differently; install those versions, or prepare it under another --run.name"
        )
    return begun


def _read_begun(folder: RunFolder[PrepareSettings]) -> Manifest:
    """Returns the manifest of the preparation to continue; raises InputError if it is not one of this job."""
    manifest = storage.read_object(folder.path(MANIFEST))
    if manifest.get("made_by") != MADE_BY or not manifest.keys() >= _BEGUN:
        raise InputError(f"{folder.path(MANIFEST)}: is damaged; prepare the images under another --run.name")
    return manifest


def _versions(manifest: Manifest) -> str:
    return ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())


def _write_shards(folder: RunFolder[PrepareSettings], entries: Sequence[Entry], refused: Sequence[Rejected]) -> None:
    """Writes the shards that are not finished, then the manifest of all shards.

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
            f"{folder.path(missing[0])} was written but is missing; on several machines --run.storage must be a "
            "place that all of them can reach"
        )
    _finish(folder, [records[name] for name in shards], refused)


def _work(shards: Mapping[str, Sequence[Entry]], image_size: int, uri: str) -> Iterator[tuple[int, list[Rejected]]]:
    """Writes shards on the cluster; yields, as it goes, how many more images were read and which were rejected."""
    if not shards:
        return
    connection.connect(0)
    dataset = ray.data.read_datasource(ShardWriter(shards, image_size, uri), override_num_blocks=len(shards))
    dataset.context.enable_progress_bars = False
    dataset.context.target_max_block_size = 1  # passes on what a task reports at once
    try:
        for said in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in said.to_pylist():
                yield row["images"], [(bad["image_id"], bad["reason"]) for bad in json.loads(row["rejected"])]
    except (RayError, OSError) as error:
        raise RunFailedError(
            f"{one_line(error)}; the finished shards stay: fix this and continue with --run.resume"
        ) from None


def _records(uri: str) -> dict[str, Record]:
    """Returns the records of the finished shards, by name."""
    names = [name.removesuffix(".json") for name in storage.list_files(storage.join(uri, FINISHED), missing_ok=True)]
    with ThreadPoolExecutor(_READERS) as threads:
        records = threads.map(lambda name: read_record(uri, name), names)
        return dict(zip(names, records, strict=True))


def _bad(records: Iterable[Record]) -> list[Rejected]:
    return [(bad["image_id"], bad["reason"]) for record in records for bad in record["rejected"]]


def _finish(folder: RunFolder[PrepareSettings], records: Sequence[Record], refused: Sequence[Rejected]) -> None:
    """Writes the list of rejected images and the finished manifest, which marks the set as complete."""
    folder.held.check()
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
    """Removes the records that only a resumed preparation needs, and our half-written files of killed processes."""
    files = storage.list_files(folder.uri)
    for name in files:
        if storage.is_partial(name):
            storage.delete(folder.path(name))
    if any(name.startswith(f"{FINISHED}/") for name in files):
        storage.delete_folder(folder.path(FINISHED))


def _print_result(manifest: Manifest, folder: RunFolder[PrepareSettings]) -> None:
    shards, size = manifest["shards"], folder.settings.data.image_size
    megabytes = sum(shard["bytes"] for shard in shards) / 1e6
    given = ["--data.source", folder.uri] + (["--data.image-size", str(size)] if size != Source().image_size else [])
    out.print(
        f"written   {count(manifest['counts']['images'], 'image')}, {megabytes:.1f} MB in {count(len(shards), 'shard')}"
    )
    out.print(f"manifest  {folder.path(MANIFEST)}")
    out.print(f"train     faceae train {shlex.join(given)}")
