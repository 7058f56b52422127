"""What a run ends with: its baselines are measured, its report and summary written. It takes seconds to import."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from faceae import storage
from faceae.cluster.protocol import RunStatus
from faceae.config import Settings
from faceae.data.dataset import FaceDataset
from faceae.data.sources import Entry
from faceae.evaluation import pca
from faceae.evaluation.run_baselines import Baselines
from faceae.evaluation.summary import summarize
from faceae.reporting import card
from faceae.reporting import run as report
from faceae.reporting.contact_sheet import contact_sheets
from faceae.reporting.latent_sheet import latent_sheet
from faceae.run_folder import RunFolder


def conclude(
    folder: RunFolder[Settings], dataset: FaceDataset, val: Sequence[Entry], status: RunStatus, started: float
) -> dict[str, Any]:
    """Measures the baselines, writes the report and summary.json, and returns the content of summary.json.

    Args:
        folder: the run's folder, with its model and metrics.
        dataset: the run's images.
        val: the entries of the validation images.
        status: how the training ended.
        started: when the job began, by the monotonic clock.
    """
    settings = folder.settings
    history = storage.read_lines(folder.path("metrics.jsonl"))
    baselines = Baselines(dataset, val, settings.train.batch_size)
    summary = summarize(folder.name, settings, history, baselines, dataset, folder.path("model"))
    wall = time.monotonic() - started
    summary |= {
        "started": round(time.time() - wall, 1),  # noqa: TID251  (a date)
        "seconds_to_first_step": round(status.first_step - started, 1) if status.first_step else None,
        "wall_seconds": round(wall, 1),
        "workers": status.workers,
        "device": status.device,
    }
    best = summary["best_baseline"]
    sheets = contact_sheets(folder.path("model"), dataset.val, dataset.task, best, baselines.fill(best))
    if settings.task_name == "reconstruct":
        sheets["latent"] = latent_sheet(folder.path("model"), dataset.val, dataset.task)
    folder.held.check()
    storage.write(folder.path("model", pca.FILE), baselines.pca())
    card.write(folder.path("model"), settings, summary)
    report.write(folder.path("report"), settings, summary, history, sheets)
    storage.write_json(folder.path("summary.json"), summary)
    return summary
