"""What Ray's metrics say of a job, for Prometheus, Ray's dashboard and Grafana (deploy/grafana.json).

All have the tags `run`, the name of the run or the grid, and `trial`, which is empty but in a grid.
"""

from __future__ import annotations

from collections import defaultdict

from ray.util.metrics import Counter, Gauge, Histogram

from faceae.training.progress import Record

_TAGS = ("run", "trial")

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


def cached(uri: str, size: int) -> None:
    """Says how many bytes of decoded images a job, with this folder, keeps in the cluster's object store."""
    Gauge(CACHED, "Decoded images in the cluster's object store, bytes.", _TAGS).set(size, tags(uri))


def masks(job: str, number: int) -> None:
    """Counts masks that were drawn for a job with this folder."""
    Counter(MASKS, "Masks drawn, or what else is random about an image.", _TAGS).inc(number, tags(job))


class Gauges:
    """The metrics of the runs that a coordinator knows."""

    def __init__(self) -> None:
        self._images = Counter(IMAGES, "Images trained on.", _TAGS)
        self._rate = Gauge(RATE, "Images trained on a second, in the last epoch.", _TAGS)
        self._wait = Gauge(WAIT, "Share of the last epoch in which the first worker waited for data.", _TAGS)
        self._epoch = Gauge(EPOCH, "Finished epochs.", _TAGS)
        self._loss = Gauge(LOSS, "Training loss of the last epoch.", _TAGS)
        self._validation = Gauge(VALIDATION, "Validation metrics of the last epoch.", (*_TAGS, "metric"))
        self._workers = Gauge(WORKERS, "Training workers.", _TAGS)
        bounds = [0.1, 0.3, 1, 3, 10, 30, 100]
        self._checkpoint = Histogram(CHECKPOINT, "Seconds that a checkpoint took to write.", bounds, _TAGS)
        self._counted: defaultdict[str, dict[int, int]] = defaultdict(dict)

    def started(self, run: str, workers: int, epoch: int, images: int) -> None:
        """Sets the workers of a run, and what of its current epoch had been trained before."""
        self._workers.set(workers, tags(run))
        self._counted[run] = {epoch: images}

    def step(self, run: str, epoch: int, images: int) -> None:
        """Counts the images of an epoch, of which so many are done."""
        counted = self._counted[run]
        if (new := images - counted.get(epoch, 0)) > 0:
            self._images.inc(new, tags(run))
            counted[epoch] = images

    def epoch(self, run: str, record: Record) -> None:
        """Takes the record of a finished epoch."""
        of = tags(run)
        self.step(run, record["epoch"], record["images"])
        self._counted[run].pop(record["epoch"], None)
        self._epoch.set(record["epoch"], of)
        self._rate.set(record["images_per_second"], of)
        self._wait.set(record["data_wait_fraction"], of)
        self._loss.set(record["train_loss"], of)
        for metric, value in record["val"].items():
            self._validation.set(value, {**of, "metric": metric})

    def checkpoint(self, run: str, seconds: float) -> None:
        """Takes the seconds that a checkpoint took to write."""
        self._checkpoint.observe(seconds, tags(run))

    def ended(self, run: str) -> None:
        """Sets the workers of a run to none."""
        self._workers.set(0, tags(run))
