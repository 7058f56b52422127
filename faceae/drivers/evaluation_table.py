"""What an evaluation collects from the cluster, and the table that it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ray.exceptions import RayError

from faceae import storage
from faceae.config.jobs import EvaluateSettings
from faceae.console import Meter, out
from faceae.data import rejected
from faceae.data.execution import Replicas
from faceae.data.rejected import Rejected
from faceae.data.sources import SYNTHETIC, Entry, Listing
from faceae.errors import InputError, RunFailedError, one_line
from faceae.run_folder import RunFolder, versions

IMAGES = "images.parquet"
"""The file that holds the metrics of each image."""

SUMMARY = "summary.json"


def once(folder: RunFolder[EvaluateSettings], keys: Set[str], evaluate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the summary of an evaluation, after evaluating unless that is finished.

    Args:
        folder: the evaluation's folder, which is claimed meanwhile.
        keys: what a summary of this kind has, among others.
        evaluate: evaluates, and returns the summary.

    Raises:
        InputError: the summary that is there is not of this kind.
    """
    with folder.claim() as resumed:
        if not (resumed and storage.exists(folder.path(SUMMARY))):
            out.print(f"evaluate  {folder.uri}" + (" (from the beginning)" if resumed else ""))
            return evaluate()
        out.print(f"evaluate  {folder.uri} is finished")
        summary: dict[str, Any] = storage.read_object(folder.path(SUMMARY))
        if not summary.keys() >= keys:
            raise InputError(
                f"{folder.path(SUMMARY)}: is damaged, or an older version wrote it; delete it, and --run.resume "
                "evaluates again"
            )
        return summary


def about(
    folder: RunFolder[EvaluateSettings], listing: Listing, images: int, placed: Replicas, seconds: float, started: float
) -> dict[str, Any]:
    """Returns what every evaluation's summary.json says of its images, its machine and its time.

    Args:
        folder: the evaluation's folder.
        listing: the images that were to be measured.
        images: how many were.
        placed: the replicas of the model.
        seconds: how long reading and measuring took.
        started: when the job began, as `time.monotonic` says it.
    """
    settings, wall = folder.settings, time.monotonic() - started
    read = len(listing.entries) + len(listing.refused)
    return {
        "run": folder.name,
        "model": settings.model,
        "source": list(settings.data.source),
        "subset": settings.data.subset,
        "counts": {"read": read, "rejected": read - images, "val": images},
        "synthetic": any(uri.startswith(SYNTHETIC) for uri in settings.data.source),
        "versions": versions("faceae", "ray", "torch"),
        "started": round(time.time() - wall, 1),  # noqa: TID251  (a date)
        "evaluate_seconds": round(seconds, 1),
        "wall_seconds": round(wall, 1),
        "replicas": placed.size,
        "device": "GPU" if placed.gpu else "CPU",
    }


def write_table(uri: str, table: pa.Table) -> None:
    """Writes a table as Parquet."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write(uri, memoryview(sink.getvalue()))


def measure(
    folder: RunFolder[EvaluateSettings],
    entries: Sequence[Entry],
    refused: Sequence[Rejected],
    scored: Iterator[pa.Table],
) -> tuple[pa.Table, float]:
    """Collects the metrics of all usable images, in the order of the entries; returns also the seconds that it took.

    Raises:
        InputError: too many images cannot be used, or one that has a mask in --mask.file.
        RunFailedError: the storage failed during reading, or the cluster failed.
    """
    blocks: list[pa.Table] = []
    bad: list[Rejected] = []
    seen: set[str] = set()
    try:
        with Meter("evaluating", len(entries)) as meter:
            for block in scored:
                usable = pc.is_null(block["reason"])
                unusable = block.filter(pc.invert(usable))
                bad += zip(unusable["image_id"].to_pylist(), unusable["reason"].to_pylist(), strict=True)
                if len(unusable) < len(block):
                    blocks.append(block.filter(usable).drop_columns(["reason"]))
                if bad and folder.settings.mask.file:
                    raise InputError(f"SOURCE: {bad[0][0]} has a mask in --mask.file, but cannot be used: {bad[0][1]}")
                rejected.check(bad, len(entries), folder)
                seen.update(block["image_id"].to_pylist())
                meter.set(len(seen))
    except RayError as error:
        raise RunFailedError(one_line(error)) from None
    finally:
        rejected.write(bad, refused, folder)
    out.print(f"evaluated {meter.summary()}")
    if not blocks:
        raise InputError(f"SOURCE: no usable image; all are listed in {folder.path(rejected.FILE)}")
    table = pa.concat_tables(blocks, promote_options="default")
    order = pc.index_in(table["image_id"], pa.array([entry.image_id for entry in entries], pa.string()))
    return table.take(order.to_numpy().argsort(kind="stable")), meter.seconds()
