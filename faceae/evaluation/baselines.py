"""The baselines that a model has to beat: ways to fill a hole, or to do another task, without a network."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from faceae import metrics
from faceae.corruption.components import bounds
from faceae.data.batch import Batch
from faceae.data.sources import Entry
from faceae.data.split import sample
from faceae.evaluation.pca import Pca
from faceae.tasks import Colorize, Denoise, Inpaint, Reconstruct, Task
from faceae.tasks.base import Fill
from faceae.training.transfer import to_device

PACKAGES = {
    "telea": ("cv2", "opencv-python-headless"),
    "navier_stokes": ("cv2", "opencv-python-headless"),
    "biharmonic": ("skimage", "scikit-image"),
    "nonlocal_means": ("cv2", "opencv-python-headless"),
}
"""The baselines that need a package of the extra `faceae[baselines]`: the module that they import, and the package."""

OF_WHOLE_PICTURE = frozenset({"mean", "biharmonic", "pca"})
"""The baselines whose fill depends on all known pixels. The others' depends on those near the hole only, so that to
fill a part of a large picture gives the same, and takes less time."""

LOOKED_AT = 64
"""Number of images whose holes tell how long the baselines take, see `chosen`."""

_REACH = 2  # pixels around a hole that the biharmonic equation uses


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


def navier_stokes(given: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fills the hole with OpenCV's inpainting after Bertalmio et al. (2001), with a radius of 3 pixels."""
    import cv2

    return cv2.inpaint(given, mask.astype(np.uint8), 3, cv2.INPAINT_NS)


def biharmonic(given: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fills the hole with scikit-image's solution of the biharmonic equation (Damelin and Hoang, 2018).

    Only the part around the hole is given to scikit-image, which takes 0.3 s for a picture of 1350x1350 whatever the
    hole. The result is that of the whole picture, see `_with_limits`.
    """
    from skimage.restoration import inpaint_biharmonic

    box = bounds(mask)
    assert box is not None
    part = box.grown(_REACH + 1).inside
    if (prepared := _with_limits(given, mask, part)) is None:
        part, prepared = (slice(None), slice(None)), given
    solved = inpaint_biharmonic(prepared, mask[part], channel_axis=-1)
    filled, hole = given.copy(), mask[part]
    filled[part][hole] = (255 * solved[hole]).round()
    return filled


def _with_limits(
    given: NDArray[np.uint8], mask: NDArray[np.bool_], part: tuple[slice, slice]
) -> NDArray[np.uint8] | None:
    """Returns a copy of a part of a picture in which two pixels hold the smallest and largest known values of all.

    scikit-image clips its solution to the known values, those of the part would be narrower. The two pixels lie in the
    part's outermost row or column, too far from the hole for the equation. Returns None if the hole is near to all four
    edges of the picture, so that there is no such row or column.
    """
    known, copy = given[~mask], given[part].copy()
    (rows, columns), (height, width) = part, mask.shape
    if rows.start > 0:
        line = copy[0]
    elif rows.stop <= height:
        line = copy[-1]
    elif columns.start > 0:
        line = copy[:, 0]
    elif columns.stop <= width:
        line = copy[:, -1]
    else:
        return None
    line[:2] = known.min(0), known.max(0)
    return copy


_OF_HOLES: dict[str, Fill] = {
    "black": black,
    "mean": mean,
    "telea": telea,
    "navier_stokes": navier_stokes,
    "biharmonic": biharmonic,
}


def available(pca: Pca | None = None, task: Task | None = None) -> dict[str, Fill]:
    """Returns the baselines of a task by name: those whose packages are installed, and what a linear model can do.

    Args:
        pca: the linear model of the training images, if there is one.
        task: the task; by default inpainting.
    """
    fills = dict(_OF_HOLES if task is None or isinstance(task, Inpaint) else task.baselines)
    for name, (module, _) in PACKAGES.items():
        if not importlib.util.find_spec(module):
            fills.pop(name, None)
    if pca and (linear := _linear(pca, task)):
        fills["pca"] = linear
    return fills


def _linear(pca: Pca, task: Task | None) -> Fill | None:
    match task:
        case None | Inpaint():
            return pca.fill
        case Colorize():
            return pca.colour
        case Reconstruct():
            return functools.partial(pca.rebuild, count=task.latent_dim)
    return None


def lacking(task: str, measured: Container[str]) -> list[str]:
    """Returns the baselines of a task, given by its name, that were not measured for lack of their packages."""
    known = {"inpaint": set(_OF_HOLES), "denoise": set(Denoise.baselines)}.get(task, set())
    return [name for name in PACKAGES if name in known and name not in measured]


class Comparison(NamedTuple):
    """What a model is compared with.

    Attributes:
        pca: the linear model of the training images, if there is one.
        image_ids: the images on which the baselines are measured, see `chosen`.
    """

    pca: Pca | None
    image_ids: frozenset[str]


def chosen(entries: Sequence[Entry], hidden: float) -> frozenset[str]:
    """Returns the images on which the baselines are measured: all, or of many a sample that depends on their ids only.

    All baselines are measured on the same images, and the model is compared with them on these. There are 1,000, and
    fewer if the holes are large: biharmonic takes 10 us for each hidden pixel of a small hole and 30 us of a large one,
    8 ms for a box of 28x28 and a quarter of a second for half of 128x128. The others take at most 20 ms.

    Args:
        entries: the images of the evaluation.
        hidden: the mean number of hidden pixels.
    """
    count = min(max(int(1_000_000 / hidden), 50), 1000)
    return frozenset(entry.image_id for entry in sample(entries, count))


def measure(batches: Iterable[Batch], pca: Pca | None = None, task: Task | None = None) -> dict[str, metrics.Sums]:
    """Returns the metrics of every baseline, summed over the batches; see `available`."""
    fills = available(pca, task)
    sums = {name: metrics.Sums() for name in fills}
    for batch in batches:
        for name, values in per_image(batch, fills).items():
            sums[name].add(values)
    return sums


def per_image(batch: Batch, fills: Mapping[str, Fill]) -> dict[str, dict[str, torch.Tensor]]:
    """Returns the metrics of every baseline for each image of a batch, see `metrics.per_example`."""
    data = to_device(batch, torch.device("cpu"))
    given = (255 * data.given).round().byte().permute(0, 2, 3, 1).numpy()
    asked = data.mask[:, 0].bool().numpy()
    values = {}
    for name, fill in fills.items():
        filled = np.stack([fill(image, where) for image, where in zip(given, asked, strict=True)])
        output = torch.from_numpy(filled).permute(0, 3, 1, 2).float() / 255
        values[name] = metrics.per_example(output, data.original, data.mask)
    return values


def best(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the baseline with the lowest composite_mse; given are the metrics of each by its name."""
    return min(measured, key=lambda name: measured[name]["composite_mse"])
