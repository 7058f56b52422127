"""What the services are told of a run, and by which names."""

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
    """The metrics of a record by their names: train_loss, val/mse, images_per_second, ..."""
    leaves = config.flat(record)
    return {path.replace(".", "/"): leaves[path] for path in leaves if path not in ("epoch", "time")}


def best(summary: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of the best epoch by their names: best/mse, ..."""
    return {"best_epoch": summary["best_epoch"]} | {f"best/{name}": value for name, value in summary["val"].items()}


def parameters(settings: Settings) -> dict[str, str | float | bool | None]:
    """The settings that say what was trained, and on what; where the results go is told otherwise."""
    leaves = config.flat(config.to_dict(settings))
    return {
        path: " ".join(map(str, value)) if isinstance(value, list) else value
        for path, value in leaves.items()
        if not path.startswith("run.")
    }


def ended_at(record: Record) -> float:
    """When an epoch ended, in seconds since 1970; a record of an older faceae does not say it."""
    return record.get("time") or time.time()
