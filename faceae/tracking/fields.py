"""The values of a run that the services get, and the names under which they get them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from faceae import config
from faceae.config import Settings
from faceae.training.progress import Record

PROJECT = "faceae"
"""MLflow's experiment and W&B's project, unless the environment names another."""


def numbers(record: Record) -> dict[str, float]:
    """Returns the metrics of a record by name: train_loss, val/mse, images_per_second, ..."""
    leaves = config.flat(record)
    return {path.replace(".", "/"): leaves[path] for path in leaves if path not in ("epoch", "time")}


def best(summary: Mapping[str, Any]) -> dict[str, float]:
    """Returns the best epoch and its metrics by name: best_epoch, best/mse, ..."""
    return {"best_epoch": summary["best_epoch"]} | {f"best/{name}": value for name, value in summary["val"].items()}


def parameters(settings: Settings) -> dict[str, str | float | bool | None]:
    """Returns the settings by dotted path, except for `run.*`: the services get the run's folder separately."""
    leaves = config.flat(config.to_dict(settings))
    return {
        path: " ".join(map(str, value)) if isinstance(value, list) else value
        for path, value in leaves.items()
        if not path.startswith("run.")
    }


def ended_at(record: Record) -> float:
    """Returns when an epoch ended, in seconds since 1970; now, if an older faceae wrote the record without a time."""
    return record.get("time") or time.time()  # noqa: TID251  (a date)
