"""Contact sheets of pictures at their own size: parts of them around the hole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceae.data.pictures import read_pictures
from faceae.data.sources import Entry
from faceae.evaluation import baselines
from faceae.evaluation.pictures import PictureScoring, restored, unpacked
from faceae.reporting import plots
from faceae.reporting.contact_sheet import SIDE, draw_rows, scaled, window


def draw_pictures(
    shown: Mapping[str, Sequence[Mapping[str, Any]]],
    entries: Sequence[Entry],
    scoring: PictureScoring,
    baseline: str,
) -> dict[str, bytes]:
    """Draws contact sheets of holes in pictures, which are read and restored again, one after the other.

    Args:
        shown: name of the sheet -> image_id, kind and size of each hole.
        entries: the pictures.
        scoring: the model, or the restored pictures, and the holes.
        baseline: name of a baseline, to be shown, too.

    Returns:
        A PNG for each sheet, with four rows: original, given, restored, and the baseline.
    """
    by_id = {entry.image_id: entry for entry in entries}
    drawn: dict[tuple[Any, ...], list[NDArray[np.uint8]]] = {}  # of a few pictures, the best are also the worst
    sheets = {}
    for name, holes in shown.items():
        keys = [(hole["image_id"], hole["kind"], hole["size"]) for hole in holes]
        for key, hole in zip(keys, holes, strict=True):
            if key not in drawn:
                drawn[key] = _parts(by_id[hole["image_id"]], hole, scoring, baseline)
        parts = zip(*(drawn[key] for key in keys), strict=True)
        rows = zip(("original", "given", "restored", baseline), map(np.stack, parts), strict=True)
        sheets[name] = plots.png(draw_rows(dict(rows)))
    return sheets


def _parts(entry: Entry, hole: Mapping[str, Any], scoring: PictureScoring, baseline: str) -> list[NDArray[np.uint8]]:
    """Returns the part around a hole of the original, of what was given, of what was restored and of a baseline."""
    others = scoring.restored.get(entry.image_id, ())
    (block,) = read_pictures([entry], [others], scoring.side, scoring.own_size)
    (row,) = block.to_pylist()
    (masks,) = scoring.holes.rows([(entry.image_id, *unpacked(row).shape[:2])])
    number = [(mask["kind"], mask["size"]) for mask in masks].index((hole["kind"], hole["size"]))
    row |= {"holes": [masks[number]], "restored": row["restored"][number : number + 1]}
    ((original, _, mask, made),) = restored(scoring.model, [row])
    at = window(mask, SIDE)
    given = np.where(mask[..., None], np.uint8(0), original)
    pictures = (original, given, made, baselines.available(scoring.comparison.pca)[baseline](given, mask))
    return [scaled(np.where(mask[at][..., None], pixels[at], original[at])) for pixels in pictures]
