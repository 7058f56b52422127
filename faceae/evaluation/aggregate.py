"""Means over all images of an evaluation, and over those with one kind or size of hole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from faceae.evaluation import baselines, picture_metrics
from faceae.metrics import NAMES

SIZES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the frame at which holes are divided by size; a hole of exactly such a share counts as smaller."""

_TINY = 1e-12  # instead of an error of 0, which has no multiple

PERCENTILES = (5, 25, 50, 75, 95, 99)

GroupMeans = dict[str, Any]
"""`images`: the number of rows; `val`: the means of the model's metrics; `baselines`: those of each baseline;
`best_baseline`: the one with the lowest composite_mse; `of_best`: the model's mean hole_mse as a share of that one's;
`worse_share`: the share of the rows where the model's hole_mse is the larger; `original`: the original's `edge_step`,
for pictures that are measured at their own size."""


def means(table: pa.Table) -> GroupMeans:
    """Returns the means over all rows of a table with the columns of `faceae.evaluation.scoring.score`."""
    names = [name for name in picture_metrics.NAMES if name in table.column_names]
    measured = {
        baseline: {name: _mean(table[f"{baseline}_{name}"]) for name in names} for baseline in _baselines(table)
    }
    val = {name: _mean(table[name]) for name in names}
    best = baselines.best(measured)
    worse = pc.greater(table["hole_mse"], table[f"{best}_hole_mse"])
    steps = f"original_{picture_metrics.EDGE_STEP}"
    return {
        "images": table.num_rows,
        "val": val,
        "baselines": measured,
        "best_baseline": best,
        "of_best": val["hole_mse"] / max(measured[best]["hole_mse"], _TINY),
        "worse_share": _mean(worse.cast(pa.float64())),
    } | ({"original": {picture_metrics.EDGE_STEP: _mean(table[steps])}} if steps in table.column_names else {})


def _baselines(table: pa.Table) -> list[str]:
    last = f"_{NAMES[-1]}"
    return [name.removesuffix(last) for name in table.column_names if name.endswith(last)]


def _mean(column: pa.ChunkedArray) -> float:
    values = column.to_numpy().astype(np.float64)
    return float(values.sum() / len(values))


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
