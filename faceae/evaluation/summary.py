"""The result of a run: its best epoch beside the baselines, for summary.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faceae.config import Settings
from faceae.data.dataset import FaceDataset
from faceae.data.sources import SYNTHETIC
from faceae.evaluation.run_baselines import Baselines
from faceae.metrics import DIVERGENCE, bits_per_value
from faceae.run_folder import versions
from faceae.training.progress import Progress, Record


def summarize(
    name: str,
    settings: Settings,
    history: Sequence[Record],
    baselines: Baselines,
    dataset: FaceDataset,
    model_uri: str,
) -> dict[str, Any]:
    """Waits for the baselines; returns the part of summary.json that describes the best epoch of a run."""
    best = Progress(list(history)).best(settings.train.best_by)
    return {
        "run": name,
        "task": settings.task_name,
        "epochs": history[-1]["epoch"],
        "best_epoch": best["epoch"],
        "best_by": settings.train.best_by,
        "val": best["val"],
        "train_loss": best["train_loss"],
        **baselines.compare(model_uri, best["val"]),
        **_bits(best["val"], settings),
        "counts": dataset.counts,
        "synthetic": any(uri.startswith(SYNTHETIC) for uri in settings.data.source),
        "train_seconds": round(sum(record["seconds"] for record in history), 1),
        "versions": versions("faceae", "ray", "torch"),
    }


def _bits(val: Mapping[str, float], settings: Settings) -> dict[str, float]:
    """Returns the bits a value of a variational autoencoder that rebuilds whole images; nothing for other networks."""
    if DIVERGENCE not in val or settings.task_name != "reconstruct":
        return {}
    return {"bits_per_value": bits_per_value(val["mse"], val[DIVERGENCE], 3 * settings.data.image_size**2)}
