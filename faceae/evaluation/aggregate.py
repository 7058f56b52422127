"""Means over all images of an evaluation, and over those with one kind or size of hole."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from faceae.evaluation import baselines, picture_metrics
from faceae.evaluation.identity import DISTANCE, SAME
from faceae.metrics import NAMES

SIZES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the frame at which holes are divided by size; a hole of exactly such a share counts as smaller."""

_TINY = 1e-12  # instead of an error of 0, which has no multiple

PERCENTILES = (5, 25, 50, 75, 95, 99)

GroupMeans = dict[str, Any]
"""`images`: the number of rows; `val`: the means of the model's metrics; `baselines`: those of each baseline;
`compared`: on how many rows (`images`) of all (`of`) the baselines were measured, and the model's means on these;
`best_baseline`: the one with the lowest composite_mse; `of_best`: the model's mean hole_mse as a share of that one's,
and `worse_share`: the share of the rows where the model's hole_mse is the larger, both on the compared rows;
`original`: the original's `edge_step`, for pictures that are measured at their own size. Where no row was compared, the
best is None."""


def means(table: pa.Table) -> GroupMeans:
    """Returns the means over all rows of a table with the columns of `faceae.evaluation.scoring.score`."""
    names = _names(table)
    steps = f"original_{picture_metrics.EDGE_STEP}"
    original = {"original": {picture_metrics.EDGE_STEP: _mean(table[steps])}} if steps in table.column_names else {}
    return {"images": table.num_rows, "val": {name: _mean(table[name]) for name in names}} | _compared(table) | original


def _compared(table: pa.Table) -> dict[str, Any]:
    """Returns the part of `GroupMeans` that compares the model with the baselines."""
    names = _names(table)
    any_baseline = _baselines(table)[0]
    rows, table = len(table), table.filter(pc.invert(pc.is_nan(table[f"{any_baseline}_{NAMES[0]}"])))
    if not len(table):
        nothing = dict.fromkeys(("best_baseline", "of_best", "worse_share"))
        return {"baselines": {}, "compared": {"images": 0, "of": rows, "val": {}}} | nothing
    val = {name: _mean(table[name]) for name in names}
    measured = {
        baseline: {name: _mean(table[f"{baseline}_{name}"]) for name in names} for baseline in _baselines(table)
    }
    found = comparison(len(table), rows, val, measured)
    worse = pc.greater(table["hole_mse"], table[f"{found['best_baseline']}_hole_mse"])
    return found | {"worse_share": _mean(worse.cast(pa.float64()))}


def comparison(
    images: int, of: int, val: Mapping[str, float], measured: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Returns what a summary says of a model and the baselines, see `GroupMeans`.

    Args:
        images: the number of images on which all of them were measured.
        of: the number of images in all.
        val: the model's metrics on those images.
        measured: the metrics of each baseline on them, by its name.
    """
    best = baselines.best(measured)
    return {
        "baselines": measured,
        "compared": {"images": images, "of": of, "val": val},
        "best_baseline": best,
        "of_best": val["hole_mse"] / max(measured[best]["hole_mse"], _TINY),
    }


def _names(table: pa.Table) -> list[str]:
    """Returns the names of the metrics that a table has."""
    return [name for name in picture_metrics.NAMES if name in table.column_names]


def _baselines(table: pa.Table) -> list[str]:
    last = f"_{NAMES[-1]}"
    return [name.removesuffix(last) for name in table.column_names if name.endswith(last)]


def _mean(column: pa.ChunkedArray) -> float:
    values = column.to_numpy().astype(np.float64)
    return float(values.sum() / len(values))


def identity(table: pa.Table) -> dict[str, Any]:
    """Returns in how many rows (`of`) a face was found (`faces`), and of these the mean distance of the restored one
    (`mean`) and the share that is taken for the same person's (`same_share`); both None without any face."""
    distances = table[DISTANCE].to_numpy()
    found = distances[~np.isnan(distances)]
    about = {"mean": float(found.mean()), "same_share": float((found < SAME).mean())} if len(found) else {}
    return {"faces": len(found), "of": len(distances), "mean": None, "same_share": None} | about


def percentiles(column: pa.ChunkedArray) -> dict[str, float]:
    """Returns the `PERCENTILES` of a column, by their number as a string."""
    return {str(number): float(np.percentile(column.to_numpy(), number)) for number in PERCENTILES}


def by_kind(table: pa.Table, kinds: Sequence[str]) -> dict[str, GroupMeans]:
    """Returns the means for each kind of hole that occurs, in the order of `kinds`."""
    found = np.array(table["kind"].to_pylist())
    return _divide(table, {kind: found == kind for kind in kinds})


def by_hole_size(table: pa.Table) -> dict[str, GroupMeans]:
    """Returns the means for each range of hole sizes that occurs, see `SIZES`."""
    height, width = (table[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    numbers = np.digitize(table["hole_pixels"].to_numpy() / (height * width), SIZES, right=True)
    edges = [f"{100 * share:g}" for share in (0, *SIZES, 1)]
    labels = [f"{low}-{high} %" for low, high in itertools.pairwise(edges)]
    return _divide(table, {label: numbers == number for number, label in enumerate(labels)})


def by_hole(table: pa.Table, kinds: Sequence[str]) -> dict[str, GroupMeans]:
    """Returns the means for each kind and size of hole in pixels, such as "box 30 px", sorted by both."""
    found = list(zip(table["kind"].to_pylist(), table["size"].to_pylist(), strict=True))
    holes = sorted(set(found), key=lambda hole: (kinds.index(hole[0]), hole[1] or 0))
    labels = {(kind, size): kind if size is None else f"{kind} {size} px" for kind, size in holes}
    return _divide(table, {labels[hole]: np.array([each == hole for each in found]) for hole in holes})


def _divide(table: pa.Table, members: dict[str, NDArray[np.bool_]]) -> dict[str, GroupMeans]:
    return {label: means(table.filter(pa.array(mine))) for label, mine in members.items() if mine.any()}
