"""The driver of jobs/evaluate.py: measures a saved model, or what another program has restored, on any images."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from faceae import config, storage
from faceae.cluster import connection
from faceae.cluster.replicas import REPLICA_CPUS, plan_replicas
from faceae.config.jobs import EvaluateSettings
from faceae.console import out
from faceae.data import frozen_masks
from faceae.drivers import anomalies
from faceae.drivers.evaluation_plan import Plan
from faceae.drivers.evaluation_table import IMAGES, SUMMARY, about, measure, once, write_table
from faceae.evaluation import aggregate
from faceae.evaluation.pictures import KNOWN_CHANGE
from faceae.reporting import evaluation as report
from faceae.run_folder import RunFolder

MASKS = "masks.parquet"
"""The file that holds the mask of each image, for another evaluation; see `faceae.data.frozen_masks`."""

KEYS = {"task", "val", "baselines", "by_kind", "by_hole_size", "masks", "compared"}
"""What the summary of an evaluation has, among others."""


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
    if settings.anomaly:
        return anomalies.find(folder, started)
    summary = once(folder, KEYS, lambda: _evaluate(folder, started))
    report.print_result(summary)
    out.print(f"\nimages    {folder.path(IMAGES)}")
    out.print(f"masks     {folder.path(MASKS)}  SHA-256 {summary['masks']['sha256']}")
    out.print(f"report    {folder.path('report', 'index.html')}")
    return summary


def _evaluate(folder: RunFolder[EvaluateSettings], started: float) -> dict[str, Any]:
    settings = folder.settings
    plan = Plan.create(settings)
    connection.connect(REPLICA_CPUS)
    placed = plan_replicas(settings.scale)
    scoring = plan.scoring(settings.batch_size, settings.identity)
    entries, refused = plan.listing
    out.print(f"images    {len(entries)} of {' '.join(settings.data.source)}, faces {plan.damage}")
    table, seconds = measure(folder, entries, refused, plan.score(scoring, placed))
    table = table.add_column(3, "score", table[plan.score_metric])
    masks, table = table.select(frozen_masks.SCHEMA.names), table.drop_columns(["seed", "bits"])
    pictures = len(table["image_id"].unique())
    kinds = scoring.holes.kinds
    summary = {
        **about(folder, plan.listing, pictures, placed, seconds, started),
        "own_size": settings.own_size,
        "image_size": plan.image_size,
        "task": plan.task_name,
        "mask": plan.mask,
        "masks": {"sha256": frozen_masks.digest(masks), "rows": masks.num_rows},
        **{name: value for name, value in aggregate.means(table).items() if name != "images"},
        "score": {"metric": plan.score_metric, "percentiles": aggregate.percentiles(table["score"])},
        "by_kind": aggregate.by_kind(table, kinds),
        "by_hole_size": aggregate.by_hole_size(table),
        **({"by_hole": aggregate.by_hole(table, kinds)} if settings.own_size else {}),
        **({"known_pixels": _known_pixels(table)} if plan.model is None else {}),
        **({"identity": aggregate.identity(table)} if settings.identity else {}),
    }
    folder.held.check()
    write_table(folder.path(IMAGES), table)
    frozen_masks.write(folder.path(MASKS), masks)
    report.write(folder.path("report"), settings, summary, plan.subject, plan.damage, table, entries, scoring)
    storage.write_json(folder.path(SUMMARY), summary)  # written last: it marks the evaluation as finished
    return summary


def _known_pixels(table: pa.Table) -> dict[str, float]:
    """Returns what another program changed outside the holes."""
    most, mean = (table[name] for name in KNOWN_CHANGE)
    changed = pc.sum(pc.greater(most, 0)).as_py()
    return {"changed": changed, "max_change": pc.max(most).as_py(), "mean_change": pc.mean(mean).as_py()}
