"""What Ray's metrics say of a job, for Prometheus, Ray's dashboard and Grafana (deploy/grafana.json).

All have the tags `run`, the name of the run or the grid, and `trial`, which is empty but in a grid.
"""

from __future__ import annotations

import time
from collections import defaultdict

from ray.util.metrics import Counter, Gauge, Histogram

from faceae.training.progress import Record

_TAGS = ("run", "trial")

_REPEAT_S = 1.0

IMAGES = "faceae_images_trained"
RATE = "faceae_images_per_second"
WAIT = "faceae_data_wait_fraction"
EPOCH = "faceae_epoch"
LOSS = "faceae_train_loss"
VALIDATION = "faceae_validation"
WORKERS = "faceae_training_workers"
CHECKPOINT = "faceae_checkpoint_seconds"
MASKS = "faceae_masks_drawn"
CACHED = "faceae_cached_bytes"
"""Names of the metrics; Prometheus gets them as ray_NAME."""


def tags(uri: str) -> dict[str, str]:
    """Returns the tags of a run in this folder; a trial's is NAME-OF-THE-GRID/trials/NAME."""
    *above, name = uri.rstrip("/").split("/")
    if len(above) > 1 and above[-1] == "trials":
        return {"run": above[-2], "trial": name}
    return {"run": name, "trial": ""}


def masks(job: str, number: int) -> None:
    """Counts masks that were drawn for a job with this folder."""
    Counter(MASKS, "Masks drawn, or what else is random about an image.", _TAGS).inc(number, tags(job))


class Gauges:
    """The metrics of the runs that a coordinator knows."""

    def __init__(self) -> None:
        self._images = Counter(IMAGES, "Images trained on.", _TAGS)
        bounds = [0.1, 0.3, 1, 3, 10, 30, 100]
        self._checkpoint = Histogram(CHECKPOINT, "Seconds that a checkpoint took to write.", bounds, _TAGS)
        self._gauges = {
            RATE: Gauge(RATE, "Images trained on a second, in the last epoch.", _TAGS),
            WAIT: Gauge(WAIT, "Share of the last epoch in which the first worker waited for data.", _TAGS),
            EPOCH: Gauge(EPOCH, "Finished epochs.", _TAGS),
            LOSS: Gauge(LOSS, "Training loss of the last epoch.", _TAGS),
            VALIDATION: Gauge(VALIDATION, "Validation metrics of the last epoch.", (*_TAGS, "metric")),
            WORKERS: Gauge(WORKERS, "Training workers.", _TAGS),
            CACHED: Gauge(CACHED, "Decoded images in the cluster's object store, bytes.", _TAGS),
        }
        self._counted: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._values: defaultdict[str, dict[tuple[str, str], float]] = defaultdict(dict)  # by gauge and metric
        self._said: dict[str, float] = {}

    def started(self, run: str, workers: int, epoch: int, images: int) -> None:
        """Sets the workers of a run, and what of its current epoch had been trained before."""
        self._values[run][WORKERS, ""] = workers
        self._counted[run] = {epoch: images}

    def cached(self, run: str, size: int) -> None:
        """Sets the bytes of the decoded images on which a run is trained."""
        self._values[run][CACHED, ""] = size

    def step(self, run: str, epoch: int, images: int) -> None:
        """Counts the images of an epoch, of which so many are done."""
        counted = self._counted[run]
        if (new := images - counted.get(epoch, 0)) > 0:
            self._images.inc(new, tags(run))
            counted[epoch] = images
        if time.monotonic() - self._said.get(run, -_REPEAT_S) >= _REPEAT_S:
            self._say(run)

    def epoch(self, run: str, record: Record) -> None:
        """Takes the record of a finished epoch."""
        values = self._values[run]
        values[EPOCH, ""], values[RATE, ""] = record["epoch"], record["images_per_second"]
        values[WAIT, ""], values[LOSS, ""] = record["data_wait_fraction"], record["train_loss"]
        values |= {(VALIDATION, metric): value for metric, value in record["val"].items()}
        self.step(run, record["epoch"], record["images"])
        self._counted[run].pop(record["epoch"], None)

    def checkpoint(self, run: str, seconds: float) -> None:
        """Takes the seconds that a checkpoint took to write."""
        self._checkpoint.observe(seconds, tags(run))

    def ended(self, run: str) -> None:
        """Forgets a run."""
        self._say(run)
        for known in (self._values, self._counted, self._said):
            known.pop(run, None)

    def _say(self, run: str) -> None:
        """Sets the gauges of a run: Ray forgets the value of one that is not set between two scrapes."""
        self._said[run] = time.monotonic()
        for (name, metric), value in self._values[run].items():
            self._gauges[name].set(value, {**tags(run), **({"metric": metric} if metric else {})})
