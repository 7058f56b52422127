"""The result of a run: its best epoch and the baselines, for summary.json and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data.cache import Blocks
from faceae.data.dataset import FaceDataset
from faceae.data.sources import SYNTHETIC
from faceae.data.validation import validation_batches
from faceae.evaluation.baselines import measure
from faceae.metrics import Sums
from faceae.run_folder import versions
from faceae.training.progress import Progress, Record


class Baselines:
    """The metrics of each baseline over the validation images, measured block by block on the cluster."""

    def __init__(self, val: Blocks, image_size: int, batch_size: int) -> None:
        """Starts measuring and returns at once."""

        @ray.remote
        def measure_block(block: Blocks) -> dict[str, Sums]:
            return measure(validation_batches(block, image_size, batch_size))

        self.images = len(val)
        blocks = [Blocks([ref], [rows]) for ref, rows in zip(val.refs, val.usable, strict=True)]
        self._measured = [(len(block), measure_block.remote(block)) for block in blocks]

    def wait(self) -> dict[str, dict[str, float]]:
        """Waits for the measurements; returns the metrics of each baseline by its name."""
        totals: dict[str, Sums] = {}
        with Meter("measuring the baselines", self.images) as meter:
            for images, measured in self._measured:
                for name, sums in ray.get(measured).items():
                    totals.setdefault(name, Sums()).merge(sums)
                meter.add(images)
        return {name: sums.means() for name, sums in totals.items()}


def summarize(
    name: str,
    settings: Settings,
    history: Sequence[Record],
    baselines: Mapping[str, dict[str, float]],
    dataset: FaceDataset,
) -> dict[str, Any]:
    """Returns the part of summary.json that describes the best epoch of a run."""
    best = Progress(list(history)).best(settings.train.best_by)
    return {
        "run": name,
        "epochs": history[-1]["epoch"],
        "best_epoch": best["epoch"],
        "best_by": settings.train.best_by,
        "val": best["val"],
        "train_loss": best["train_loss"],
        "baselines": baselines,
        "counts": dataset.counts,
        "synthetic": any(uri.startswith(SYNTHETIC) for uri in settings.data.source),
        "train_seconds": round(sum(record["seconds"] for record in history), 1),
        "versions": versions("faceae", "ray", "torch"),
    }


def print_caveats(summary: Mapping[str, Any]) -> None:
    """Prints what a reader of the result table has to know."""
    if "telea" not in summary["baselines"]:
        out.print("(for the baseline telea install faceae[telea])")
    if summary["synthetic"]:
        out.print(
            "The images are synthetic portraits: they show that the system works, not how well faces are restored."
        )
