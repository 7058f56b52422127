"""The driver of jobs/embed.py: latent vectors of many pictures, and which of them are nearest to others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from ray.exceptions import RayError

from faceae import config, models, storage
from faceae.cluster import connection
from faceae.cluster.replicas import REPLICA_CPUS, plan_replicas
from faceae.config.embed import EmbedSettings
from faceae.console import Meter, count, out
from faceae.data import rejected
from faceae.data.rejected import Rejected
from faceae.data.sources import SYNTHETIC, Entry, Listing, digest, list_sources
from faceae.data.split import choose
from faceae.errors import InputError, RunFailedError, one_line
from faceae.evaluation import latents
from faceae.evaluation.latents import Part
from faceae.evaluation.neighbours import nearest
from faceae.models import Restorer
from faceae.reporting import neighbours as report
from faceae.run_folder import RunFolder, versions

SUMMARY = "summary.json"

NEIGHBOURS = "neighbours.parquet"
"""In the folder of the report: so all Parquet files beside the summary are of one form."""

Folder = RunFolder[EmbedSettings]


class Latents(NamedTuple):
    """Latent vectors of some images.

    Attributes:
        ids: the images' ids.
        vectors: (N, D) float32.
    """

    ids: list[str]
    vectors: NDArray[np.float32]


def embed(settings: EmbedSettings) -> dict[str, Any]:
    """Writes the latent vectors of pictures, as docs/usage.md describes it.

    Args:
        settings: the job's settings; validated here.

    Returns:
        The content of summary.json.

    Raises:
        InputError: the input is wrong.
        RunFailedError: the storage or the cluster failed; finished parts stay.
    """
    settings = config.validate(settings)
    folder = RunFolder(settings)
    model = _load(settings.model)
    listing = _list(settings, settings.data.source, settings.SOURCE_FLAG)
    asked = _list(settings, settings.queries, "--queries").entries if settings.queries else None
    with folder.hold():
        resumed = folder.open()
        out.print(f"embed     {folder.uri}" + (" (continued)" if resumed else ""))
        summary = _begin(folder, model, listing.entries)
        known = _embed(folder, model, listing)
        read = len(listing.entries) + len(listing.refused)
        summary |= {
            "finished": True,
            "latent_dim": known.vectors.shape[1],
            "counts": {"read": read, "rejected": read - len(known.ids), "images": len(known.ids)},
        }
        if settings.neighbours:
            queried = known if asked is None else _encode_queries(folder, model, asked)
            table = _find_neighbours(known, queried, settings.neighbours)
            _write_neighbours(folder, table, listing.entries, asked or listing.entries, model.settings.data.image_size)
        storage.write_json(folder.path(SUMMARY), summary)
        out.print(f"summary   {folder.path(SUMMARY)}")
    return summary


def _load(uri: str) -> Restorer:
    try:
        model = models.load(uri)
    except InputError as error:
        raise InputError(f"MODEL {error}") from None
    if not hasattr(model.network, "encode"):
        raise InputError(
            f"MODEL {uri}: a unet for --task {model.settings.task_name} has no latent vector; use a model with "
            "--model.name article, or one that fills holes"
        )
    return model


def _list(settings: EmbedSettings, source: tuple[str, ...], flag: str) -> Listing:
    listing = list_sources(source, flag, settings.data.verify)
    return Listing(choose(listing.entries, settings.data.limit), listing.refused)


def _begin(folder: Folder, model: Restorer, entries: Sequence[Entry]) -> dict[str, Any]:
    """Writes what the latent vectors depend on, or checks that those that are there depend on the same.

    Raises:
        InputError: they are of another model or of other images.
    """
    source = [uri for uri in folder.settings.data.source if not uri.startswith(SYNTHETIC)]
    stamps = {name: stamp for uri in source for name, stamp in storage.stamps(storage.absolute(uri)).items()}
    summary: dict[str, Any] = {
        "finished": False,
        "model": hashlib.sha256(models.weights(model)).hexdigest(),
        "source": digest(entries, stamps),
        "versions": versions("faceae", "torch", "pillow"),
    }
    if not storage.exists(folder.path(SUMMARY)):
        storage.write_json(folder.path(SUMMARY), summary)
        return summary
    begun = storage.read_object(folder.path(SUMMARY))
    for name, flag in (("model", "MODEL"), ("source", folder.settings.SOURCE_FLAG)):
        if begun.get(name) != summary[name]:
            raise InputError(f"{flag}: it has changed since {folder.name} was begun; choose another --run.name")
    return begun


def _embed(folder: Folder, model: Restorer, listing: Listing) -> Latents:
    """Writes the parts that are not there, and the list of rejected images; returns the content of all parts.

    Raises:
        InputError: too many images cannot be used.
    """
    entries = listing.entries
    parts = latents.plan(entries, model.settings.data.image_size)
    there = set(storage.list_files(folder.uri))
    left = [part for part in parts if part.name not in there]
    out.print(f"images    {len(entries)} in {' '.join(folder.settings.data.source)}, for {count(len(parts), 'file')}")
    if len(left) < len(parts):
        out.print(f"resumed   {len(parts) - len(left)} of {len(parts)} files are there")
    bad: list[Rejected] = []

    def keep(part: Part, table: pa.Table) -> None:
        folder.held.check()
        bad.extend(latents.write(folder.path(part.name), table))
        _check(bad, listing, folder)

    _encode(folder.settings, model, left, keep)
    read = [latents.read(folder.path(part.name)) for part in parts]
    bad = [each for _, rejected_of_part in read for each in rejected_of_part]
    _check(bad, listing, folder)
    rejected.write(bad, listing.refused, folder)
    found = _latents([table for table, _ in read])
    if not found.ids:
        raise InputError(f"SOURCE: no usable image; all are listed in {folder.path(rejected.FILE)}")
    out.print(f"latents   {count(len(found.ids), 'vector')} of {found.vectors.shape[1]} numbers in {folder.uri}")
    return found


def _check(bad: Sequence[Rejected], listing: Listing, folder: Folder) -> None:
    try:
        rejected.check(bad, len(listing.entries), folder)
    except InputError:
        rejected.write(bad, listing.refused, folder)
        raise


def _encode(
    settings: EmbedSettings, model: Restorer, parts: Sequence[Part], keep: Callable[[Part, pa.Table], None]
) -> None:
    """Encodes the images of parts on the cluster; gives each finished one to `keep`.

    Raises:
        RunFailedError: the storage or the cluster failed.
    """
    if not parts:
        return
    connection.connect(REPLICA_CPUS)
    replicas = plan_replicas(settings.scale)
    try:
        with Meter("encoding", sum(len(part.ids) for part in parts)) as meter:
            for images, finished in latents.encode(parts, model, settings.batch_size, replicas):
                meter.add(images)
                if finished:
                    keep(*finished)
    except (RayError, OSError) as error:
        raise RunFailedError(
            f"{one_line(error)}; the finished files stay: fix this and continue with --run.resume"
        ) from None
    out.print(f"encoded   {meter.summary()}")


def _latents(tables: Sequence[pa.Table]) -> Latents:
    ids = [image_id for table in tables for image_id in table["image_id"].to_pylist()]
    return Latents(ids, np.concatenate([latents.vectors(table) for table in tables]))


def _encode_queries(folder: Folder, model: Restorer, entries: Sequence[Entry]) -> Latents:
    """Returns the latent vectors of the queries, which are not kept.

    Raises:
        InputError: none of them can be used.
    """
    settings = folder.settings
    tables: list[pa.Table] = []
    out.print(f"queries   {len(entries)} in {' '.join(settings.queries)}")
    parts = latents.plan(entries, model.settings.data.image_size)
    _encode(settings, model, parts, lambda _, table: tables.append(table))
    found = [latents.usable(table) for table in tables]
    bad = [each for _, rejected_of_part in found for each in rejected_of_part]
    if len(bad) == len(entries):
        raise InputError(f"--queries: none of these images can be used, such as {bad[0][0]}: {bad[0][1]}")
    for image_id, reason in bad:
        out.print(f"rejected  {image_id}: {reason}")
    return _latents([table for table, _ in found])


def _find_neighbours(known: Latents, queried: Latents, count: int) -> pa.Table:
    """Returns `image_id`, `rank` (from 1), `neighbour` and `distance`, sorted by picture and rank."""
    rows, distances = nearest(queried.vectors, known.vectors, count, same=queried is known)
    found = rows.shape[1]
    return pa.table(
        {
            "image_id": [image_id for image_id in queried.ids for _ in range(found)],
            "rank": pa.array(np.tile(np.arange(1, found + 1, dtype=np.int32), len(rows))),
            "neighbour": pa.array(known.ids).take(pa.array(rows.ravel())),
            "distance": pa.array(distances.ravel()),
        }
    )


def _write_neighbours(
    folder: Folder, table: pa.Table, entries: Sequence[Entry], asked: Sequence[Entry], side: int
) -> None:
    """Writes the table of the nearest pictures, and the page that shows some of them."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write(folder.path("report", NEIGHBOURS), memoryview(sink.getvalue()))
    report.write(folder, table, entries, asked, side)
    out.print(f"nearest   {folder.path('report', NEIGHBOURS)}")
    out.print(f"report    {folder.path('report', 'index.html')}")
