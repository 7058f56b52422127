"""The driver of jobs/evaluate.py: measures a saved model on any images."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ray.exceptions import RayError
from torch import nn

from faceae import config, models, storage
from faceae.cluster import connection
from faceae.cluster.replicas import REPLICA_CPUS, plan_replicas
from faceae.config import Data, Settings
from faceae.config.jobs import EvaluateSettings
from faceae.console import Meter, out
from faceae.data import rejected
from faceae.data.execution import Replicas
from faceae.data.mask_generator import MaskGenerator, read_masks
from faceae.data.rejected import Rejected
from faceae.data.sources import SYNTHETIC, Listing, list_sources
from faceae.data.split import Split, choose
from faceae.errors import InputError, RunFailedError, one_line
from faceae.evaluation import aggregate
from faceae.evaluation.scoring import SCORES, Scoring, score
from faceae.reporting import evaluation as report
from faceae.reporting.pages import hidden
from faceae.run_folder import RunFolder, versions

IMAGES = "images.parquet"
"""The file that holds the metrics of each image."""

SUMMARY = "summary.json"


def evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    """Measures a model and leaves the evaluation's folder as docs/usage.md describes it.

    Args:
        settings: the evaluation's settings; validated here.

    Returns:
        The content of summary.json.

    Raises:
        InputError: the input is wrong; raised before any worker starts, except for images that cannot be decoded.
        RunFailedError: the storage or the cluster failed.
    """
    started = time.monotonic()
    settings = config.validate(settings)
    folder = RunFolder(settings)
    with folder.claim() as resumed:
        if resumed and storage.exists(folder.path(SUMMARY)):
            out.print(f"evaluate  {folder.uri} is finished")
            summary = _read_summary(folder)
        else:
            out.print(f"evaluate  {folder.uri}" + (" (from the beginning)" if resumed else ""))
            summary = _evaluate(folder, started)
    report.print_result(summary)
    out.print(f"\nimages    {folder.path(IMAGES)}")
    out.print(f"report    {folder.path('report', 'index.html')}")
    return summary


def _read_summary(folder: RunFolder[EvaluateSettings]) -> dict[str, Any]:
    """Returns the summary of a finished evaluation; raises InputError if it is not one."""
    summary = storage.read_object(folder.path(SUMMARY))
    if not summary.keys() >= {"val", "baselines", "by_kind", "by_hole_size"}:
        raise InputError(f"{folder.path(SUMMARY)}: is damaged; delete it, and --run.resume evaluates again")
    return summary


def _evaluate(folder: RunFolder[EvaluateSettings], started: float) -> dict[str, Any]:
    settings = folder.settings
    network, trained = _load(settings.model)
    mask, size = settings.mask.applied_to(trained.mask), trained.data.image_size
    config.check_mask(mask, size)
    listing = _list(settings, trained.data)
    library = read_masks(mask.images, size)
    connection.connect(REPLICA_CPUS)
    placed = plan_replicas(settings.scale)
    scoring = Scoring(network, MaskGenerator.create(mask, size, library), settings.batch_size)
    out.print(f"images    {len(listing.entries)} of {' '.join(settings.data.source)}, faces with {hidden(mask)}")
    table, seconds = _measure(folder, listing, scoring, placed)
    table = table.add_column(3, "score", table[SCORES[trained.model.name]])
    whole = aggregate.means(table)
    wall = time.monotonic() - started
    summary = {
        "run": folder.name,
        "model": settings.model,
        "source": list(settings.data.source),
        "subset": settings.data.subset,
        "image_size": size,
        "mask": config.to_dict(mask),
        "val": whole["val"],
        "baselines": whole["baselines"],
        "counts": {
            "read": len(listing.entries) + len(listing.refused),
            "rejected": len(listing.entries) + len(listing.refused) - table.num_rows,
            "val": table.num_rows,
        },
        "score": {"metric": SCORES[trained.model.name], "percentiles": aggregate.percentiles(table["score"])},
        "by_kind": aggregate.by_kind(table, mask),
        "by_hole_size": aggregate.by_hole_size(table, size),
        "synthetic": any(uri.startswith(SYNTHETIC) for uri in settings.data.source),
        "versions": versions("faceae", "ray", "torch"),
        "started": round(time.time() - wall, 1),  # noqa: TID251  (a date)
        "evaluate_seconds": round(seconds, 1),
        "wall_seconds": round(wall, 1),
        "replicas": placed.size,
        "device": "GPU" if placed.gpu else "CPU",
    }
    folder.held.check()
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write(folder.path(IMAGES), memoryview(sink.getvalue()))
    report.write(folder.path("report"), trained, summary, table, listing.entries, scoring)
    storage.write_json(folder.path(SUMMARY), summary)  # written last: it marks the evaluation as finished
    return summary


def _load(uri: str) -> tuple[nn.Module, Settings]:
    """Returns the model and the settings that it was trained with."""
    try:
        network = models.load(uri)
    except InputError as error:
        raise InputError(f"MODEL {error}") from None
    settings: Any = network.settings
    return network, settings


def _list(settings: EvaluateSettings, trained: Data) -> Listing:
    """Lists the images to measure."""
    listing = list_sources(settings.data.source, settings.SOURCE_FLAG, settings.data.verify)
    entries = listing.entries
    if settings.data.subset == "val":
        kept = _kept_for_validation(settings.data.source, trained)
        entries = [entry for entry in entries if entry.image_id in kept]
        if not entries:
            raise InputError(
                f"SOURCE {' '.join(settings.data.source)}: the model's run kept none of these images for validation; "
                f"it was trained on {' '.join(trained.source)}"
            )
    return Listing(choose(entries, settings.data.limit), listing.refused)


def _kept_for_validation(source: tuple[str, ...], trained: Data) -> set[str]:
    """Returns the ids of the images that the model's run validated on.

    Lists that run's own source to find them: the split hashes the ids, so other ids would give another split.
    """
    if trained.val_source and [*map(storage.absolute, source)] != [*map(storage.absolute, trained.val_source)]:
        raise InputError(
            f"--data.subset val: the model's run validated on {' '.join(trained.val_source)}; name that as SOURCE"
        )
    try:
        return {entry.image_id for entry in Split(trained).val}
    except InputError as error:
        raise InputError(f"--data.subset val needs the source that the model was trained on: {error}") from None


def _measure(
    folder: RunFolder[EvaluateSettings], listing: Listing, scoring: Scoring, placed: Replicas
) -> tuple[pa.Table, float]:
    """Measures all usable images; returns their metrics and the seconds that it took.

    Raises:
        InputError: too many images cannot be used.
        RunFailedError: the storage failed during reading, or the cluster failed.
    """
    blocks: list[pa.Table] = []
    bad: list[Rejected] = []
    total = len(listing.entries)
    try:
        with Meter("evaluating", total) as meter:
            for block in score(listing.entries, scoring, placed):
                usable = pc.is_null(block["reason"])
                blocks.append(block.filter(usable).drop_columns(["reason"]))
                unusable = block.filter(pc.invert(usable))
                bad += zip(unusable["image_id"].to_pylist(), unusable["reason"].to_pylist(), strict=True)
                rejected.check(bad, total, folder)
                meter.add(len(block))
    except RayError as error:
        raise RunFailedError(one_line(error)) from None
    finally:
        rejected.write(bad, listing.refused, folder)
    out.print(f"evaluated {meter.summary()}")
    table = pa.concat_tables(blocks)
    if not len(table):
        raise InputError(f"SOURCE: no usable image; all are listed in {folder.path(rejected.FILE)}")
    return table, meter.seconds()
