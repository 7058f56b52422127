"""The baselines of a run, which are fitted and measured on the cluster from its decoded images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray
from torch import nn

from faceae import models
from faceae.console import Meter
from faceae.data.cache import Blocks
from faceae.data.dataset import FaceDataset
from faceae.data.execution import lower_priority
from faceae.data.reader import column_rows
from faceae.data.sources import Entry
from faceae.data.validation import validation_batches
from faceae.evaluation import pca
from faceae.evaluation.aggregate import comparison
from faceae.evaluation.baselines import LOOKED_AT, available, chosen, measure
from faceae.evaluation.pca import Pca
from faceae.metrics import Sums
from faceae.tasks import Inpaint, Task
from faceae.tasks.base import Fill
from faceae.training import engine

_MEASURED = 64
_SHRUNK = 1024
"""Images of a task at least: it takes as long as to start one, where it has to import torch and scikit-image."""


class Baselines:
    """The baselines of a run, fitted to its training images and measured on its validation images, on the cluster."""

    def __init__(self, dataset: FaceDataset, val: Sequence[Entry], batch_size: int) -> None:
        """Starts fitting and measuring, and returns at once.

        Args:
            dataset: the run's images.
            val: the entries of the validation images, see `faceae.data.split.Split`.
            batch_size: number of images that are filled at a time.
        """
        self.task, self.batch_size = dataset.task, batch_size
        images = len(chosen(val, _hidden(dataset.task, [entry.image_id for entry in val[:LOOKED_AT]])))
        self.all, self.compared = len(dataset.val), dataset.val.first(images)
        self._pca = _fit_to(dataset.train)
        self._measured = [
            (len(part), _measure_baselines.remote(part, self.task, batch_size, self._pca))
            for part in self.compared.portions(_MEASURED)
        ]

    def compare(self, model_uri: str, val: dict[str, float]) -> dict[str, Any]:
        """Waits for the measurements, and compares a model with the baselines, see `aggregate.comparison`.

        Args:
            model_uri: the model, which is measured on a sample of the validation images if the baselines were.
            val: its metrics on all validation images.
        """
        totals: dict[str, Sums] = {}
        with Meter("measuring the baselines", len(self.compared)) as meter:
            for images, measured in self._measured:
                for name, sums in ray.get(measured).items():
                    totals.setdefault(name, Sums()).merge(sums)
                meter.add(images)
        if len(self.compared) < self.all:
            val = self._measure(model_uri)
        return comparison(len(self.compared), self.all, val, {name: sums.means() for name, sums in totals.items()})

    def _measure(self, model_uri: str) -> dict[str, float]:
        """Returns the metrics of a model on the images that were compared."""
        network, total = ray.put(models.load(model_uri)), Sums()
        for measured in [
            _measure_model.remote(part, self.task, self.batch_size, network)
            for part in self.compared.portions(_MEASURED)
        ]:
            total.merge(ray.get(measured))
        return total.means()

    def fill(self, name: str) -> Fill:
        """Returns what fills holes as this baseline does."""
        return available(ray.get(self._pca), self.task)[name]

    def pca(self) -> bytes:
        """Returns the fitted PCA as a file, to be saved with the model, so that evaluations have it, too."""
        fitted: Pca = ray.get(self._pca)
        return fitted.to_bytes()


def _hidden(task: Task, image_ids: Sequence[str]) -> float:
    """Returns the mean number of hidden pixels; 1 for a task that hides none: its baselines take at most 70 ms."""
    if not isinstance(task, Inpaint):
        return 1
    return float(np.bitwise_count(task.draw_validation(image_ids)).sum(1).mean())


@ray.remote
def _measure_baselines(images: Blocks, task: Task, batch_size: int, fitted: Pca) -> dict[str, Sums]:
    lower_priority()
    return measure(validation_batches(images, task, batch_size), fitted, task)


@ray.remote
def _measure_model(images: Blocks, task: Task, batch_size: int, network: nn.Module) -> Sums:
    return engine.evaluate(network, validation_batches(images, task, batch_size), device=torch.device("cpu"))


def _fit_to(train: Blocks) -> ray.ObjectRef:
    """Starts fitting a PCA to a sample of the training images, which depends on their ids only; returns the `Pca`."""
    sampled = train.first(pca.IMAGES)
    shrunk = [_shrink.remote(part.usable, *part.refs) for part in sampled.portions(_SHRUNK)]
    return _fit.remote(shrunk, sampled.source_order)


@ray.remote
def _shrink(usable: list[NDArray[np.int32]], *blocks: pa.Table) -> NDArray[np.uint8]:
    lower_priority()
    pixels = [column_rows(block, "pixels") for block in blocks]
    side = math.isqrt(len(pixels[0][0]) // 3)
    faces = [images[row].reshape(side, side, 3) for images, rows in zip(pixels, usable, strict=True) for row in rows]
    return pca.shrink(faces)


@ray.remote
def _fit(shrunk: list[ray.ObjectRef], order: NDArray[np.int64]) -> Pca:
    lower_priority()
    return pca.fit(np.concatenate(ray.get(shrunk))[order])
