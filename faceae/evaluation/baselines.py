"""The baselines that a model has to beat: ways to fill a hole without learning."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from faceae import metrics
from faceae.corruption import masks
from faceae.data.batch import Batch
from faceae.training.transfer import to_device

Fill = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]]
"""(S, S, 3) uint8 with a black hole, (S, S) bool True inside it -> (S, S, 3) uint8."""


OF_WHOLE_PICTURE = frozenset({"mean"})
"""The baselines whose fill depends on all known pixels. The others' depends on those near the hole only, so that to
fill a part of a large picture gives the same, and takes less time."""


def black(given: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Leaves the hole black."""
    return given


def mean(given: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fills the hole with the mean colour of the known pixels."""
    filled = given.copy()
    filled[mask] = given[~mask].mean(0).round()
    return filled


def telea(given: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fills the hole with OpenCV's inpainting after Telea (2004), with a radius of 3 pixels."""
    import cv2

    return cv2.inpaint(given, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)


def available() -> dict[str, Fill]:
    """Returns the baselines by name; `telea` only where OpenCV is installed (the extra `faceae[telea]`)."""
    fills: dict[str, Fill] = {"black": black, "mean": mean}
    if importlib.util.find_spec("cv2"):
        fills["telea"] = telea
    return fills


def best(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the baseline with the lowest composite_mse; given are the metrics of each by its name."""
    return min(measured, key=lambda name: measured[name]["composite_mse"])


def measure(batches: Iterable[Batch]) -> dict[str, metrics.Sums]:
    """Returns the metrics of every baseline, summed over the batches."""
    sums = {name: metrics.Sums() for name in available()}
    for batch in batches:
        for name, values in per_image(batch).items():
            sums[name].add(values)
    return sums


def per_image(batch: Batch) -> dict[str, dict[str, torch.Tensor]]:
    """Returns the metrics of every baseline for each image of a batch, see `metrics.per_example`."""
    data = to_device(batch, torch.device("cpu"))
    holes = masks.unpack(batch.mask, batch.pixels.shape[1])
    given = np.where(holes[..., None], np.uint8(0), batch.pixels)
    values = {}
    for name, fill in available().items():
        filled = np.stack([fill(image, hole) for image, hole in zip(given, holes, strict=True)])
        output = torch.from_numpy(filled).permute(0, 3, 1, 2).float() / 255
        values[name] = metrics.per_example(output, data.original, data.mask)
    return values
