"""Means over all images of an evaluation, and over those with one kind or size of hole. Needs only numpy and Arrow."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from faceae.config import Mask
from faceae.metrics import NAMES

SIZES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the frame at which holes are divided by size; a hole of exactly such a share counts as smaller."""

PERCENTILES = (5, 25, 50, 75, 95, 99)

GroupMeans = dict[str, Any]
"""`images`: the number of images; `val`: the means of the model's metrics; `baselines`: those of each baseline."""


def means(table: pa.Table) -> GroupMeans:
    """Returns the means over all images of a table with the columns of `faceae.evaluation.scoring.score`."""
    return {
        "images": table.num_rows,
        "val": {name: _mean(table[name]) for name in NAMES},
        "baselines": {
            baseline: {name: _mean(table[f"{baseline}_{name}"]) for name in NAMES} for baseline in _baselines(table)
        },
    }


def _baselines(table: pa.Table) -> list[str]:
    last = f"_{NAMES[-1]}"
    return [name.removesuffix(last) for name in table.column_names if name.endswith(last)]


def _mean(column: pa.ChunkedArray) -> float:
    values = column.to_numpy().astype(np.float64)
    return float(values.sum() / len(values))


def percentiles(column: pa.ChunkedArray) -> dict[str, float]:
    """Returns the `PERCENTILES` of a column, by their number as a string."""
    return {str(number): float(np.percentile(column.to_numpy(), number)) for number in PERCENTILES}


def by_kind(table: pa.Table, mask: Mask) -> dict[str, GroupMeans]:
    """Returns the means for each kind of hole that occurs, in the order of the settings."""
    kinds = np.array(table["kind"].to_pylist())
    return _divide(table, {kind: kinds == kind for kind in mask.kind})


def by_hole_size(table: pa.Table, image_size: int) -> dict[str, GroupMeans]:
    """Returns the means for each range of hole sizes that occurs, see `SIZES`."""
    shares = table["hole_pixels"].to_numpy() / image_size**2
    numbers = np.digitize(shares, SIZES, right=True)
    edges = [f"{100 * share:g}" for share in (0, *SIZES, 1)]
    labels = [f"{low}-{high} %" for low, high in itertools.pairwise(edges)]
    return _divide(table, {label: numbers == number for number, label in enumerate(labels)})


def _divide(table: pa.Table, members: dict[str, NDArray[np.bool_]]) -> dict[str, GroupMeans]:
    return {label: means(table.filter(pa.array(mine))) for label, mine in members.items() if mine.any()}
