"""The driver of `faceae evaluate --anomaly`: which images show what does not belong on a face, and where."""

from __future__ import annotations

from typing import Any

from faceae import storage
from faceae.cluster import connection
from faceae.cluster.replicas import REPLICA_CPUS, plan_replicas
from faceae.config.jobs import EvaluateSettings
from faceae.console import out
from faceae.drivers.evaluation_plan import listed, load
from faceae.drivers.evaluation_table import IMAGES, SUMMARY, about, measure, once, write_table
from faceae.evaluation import aggregate, anomaly
from faceae.reporting import anomalies as report
from faceae.run_folder import RunFolder


def find(folder: RunFolder[EvaluateSettings], started: float) -> dict[str, Any]:
    """Scores images and leaves the folder as docs/usage.md describes it.

    Args:
        folder: the evaluation's folder.
        started: when the job began, as `time.monotonic` says it.

    Returns:
        The content of summary.json.

    Raises:
        InputError: the input is wrong.
        RunFailedError: the storage or the cluster failed.
    """
    summary = once(folder, {"anomaly"}, lambda: _find(folder, started))
    report.print_result(summary)
    out.print(f"\nimages    {folder.path(IMAGES)}")
    out.print(f"report    {folder.path('report', 'index.html')}")
    return summary


def _find(folder: RunFolder[EvaluateSettings], started: float) -> dict[str, Any]:
    settings = folder.settings
    model, _ = load(settings.model)
    anomaly.check(model)
    entries, refused = listing = listed(settings, model.settings.data)
    connection.connect(REPLICA_CPUS)
    placed = plan_replicas(settings.scale)
    out.print(f"images    {len(entries)} of {' '.join(settings.data.source)}")
    scoring = anomaly.AnomalyScoring(model, settings.batch_size)
    table, seconds = measure(folder, entries, refused, anomaly.score_anomalies(entries, scoring, placed))
    summary = {
        **about(folder, listing, table.num_rows, placed, seconds, started),
        "anomaly": True,
        "image_size": model.settings.data.image_size,
        "score": {"metric": "anomaly", "percentiles": aggregate.percentiles(table["score"])},
        "highest": report.highest(table),
    }
    folder.held.check()
    write_table(folder.path(IMAGES), table)
    report.write(folder.path("report"), settings, summary, table, listing.entries, model)
    storage.write_json(folder.path(SUMMARY), summary)  # written last: it marks the evaluation as finished
    return summary
