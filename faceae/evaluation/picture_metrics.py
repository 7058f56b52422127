"""Metrics of one picture of any size that was restored inside a hole, computed around the hole only.

Elsewhere the two pictures are equal. So neither time nor memory depends on the picture's size, only on the hole's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceae import metrics
from faceae.corruption.components import bounds

Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

Hole = NDArray[np.bool_]
"""(H, W) bool, True inside the hole."""

EDGE_STEP = "edge_step"
"""The mean absolute difference, of 255, between the pixels on the two sides of the hole's edge: a visible outline is a
larger step than the original's, a blurred edge a smaller one."""

NAMES = (*metrics.NAMES, EDGE_STEP)

MARGIN = 16
"""Known pixels around a hole that are looked at, on each side. The baselines fill a hole from fewer; SSIM needs 10."""

_SSIM_REACH = 5  # pixels on each side of the centre of the 11-pixel window
_TILE = 64  # side in pixels of the parts in which SSIM is computed: a stroke touches few, and they stay in the cache


def around(hole: Hole) -> tuple[slice, slice]:
    """Returns the rows and columns of a hole's bounding box with `MARGIN` pixels on each side, inside the picture."""
    box = bounds(hole)
    assert box is not None
    return box.grown(MARGIN).inside


def measure(original: Pixels, hole: Hole, fills: Mapping[str, Pixels], frame: int) -> dict[str, dict[str, float]]:
    """Computes the metrics of several fills of a hole.

    Args:
        original: the part `around` the hole of the picture without a hole.
        hole: the same part of the mask.
        fills: name -> the same part of the restored picture, which is the original's outside the hole.
        frame: number of pixels of the whole picture.

    Returns:
        Name -> the metrics `NAMES`, see `faceae.metrics.per_example`. A restored picture is its own composite, so that
        mse and psnr_db are those of the composite.
    """
    dissimilar = _dissimilarity(original, hole, list(fills.values()))
    known = original[hole].astype(np.int32)
    measured = {}
    for (name, fill), unlike in zip(fills.items(), dissimilar, strict=True):
        filled = fill[hole].astype(np.int32)
        hole_mse = float(np.square(filled - known).mean()) / 255**2
        mse = hole_mse * len(known) / frame
        wrong = int((filled.argmax(1) != known.argmax(1)).sum())
        psnr_db, hole_psnr_db = metrics.psnr_db(torch.tensor([mse, hole_mse], dtype=torch.float64)).tolist()
        values = (mse, psnr_db, hole_mse, hole_psnr_db, mse, psnr_db, 1 - unlike / frame, 1 - wrong / frame)
        measured[name] = dict(zip(metrics.NAMES, values, strict=True)) | {EDGE_STEP: edge_step(fill, hole)}
    return measured


def edge_step(pixels: Pixels, hole: Hole) -> float:
    """Returns the `EDGE_STEP` of a picture: over all pairs of neighbours, one inside the hole and the other outside."""
    total, pairs = 0, 0
    for one, other in (((slice(1, None),), (slice(-1),)), ((slice(None), slice(1, None)), (slice(None), slice(-1)))):
        edge = hole[one] != hole[other]
        total += int(np.abs(pixels[one][edge].astype(np.int32) - pixels[other][edge]).sum())
        pairs += 3 * int(edge.sum())
    return total / pairs


def known_change(original: Pixels, restored: Pixels, hole: Hole) -> tuple[int, float]:
    """Returns the largest and the mean change, of 255, that a restored picture has outside the hole."""
    change = np.maximum(original, restored) - np.minimum(original, restored)
    change[hole] = 0
    return int(change.max()), float(change.sum(dtype=np.int64) / (3 * (hole.size - np.count_nonzero(hole))))


@metrics.full_fp32()
@torch.inference_mode()
def _dissimilarity(original: Pixels, hole: Hole, fills: list[Pixels]) -> list[float]:
    """Returns for each fill the sum of 1 - SSIM over all pixels (Wang et al., 2004), tile by tile."""
    # Imported here, because it takes half a second.
    from torchmetrics.functional.image import structural_similarity_index_measure

    total = torch.zeros(len(fills), dtype=torch.float64)
    height, width = hole.shape
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            rows, columns = (_reached(start, size) for start, size in ((top, height), (left, width)))
            if not hole[rows, columns].any():
                continue
            pasted = torch.stack([_tensor(fill[rows, columns]) for fill in fills])
            known = _tensor(original[rows, columns]).expand_as(pasted)
            both: Any = structural_similarity_index_measure(
                pasted, known, data_range=1.0, reduction="none", return_full_image=True
            )
            mine = both[1][:, :, top - rows.start :, left - columns.start :][:, :, :_TILE, :_TILE]
            total += (1 - mine.double()).sum((1, 2, 3)) / 3
    return total.tolist()


def _reached(start: int, size: int) -> slice:
    """Returns the pixels that bear on a tile's SSIM along one axis: those of the tile and some on both sides."""
    return slice(max(0, start - _SSIM_REACH), min(size, start + _TILE + _SSIM_REACH))


def _tensor(pixels: Pixels) -> torch.Tensor:
    return torch.tensor(pixels).permute(2, 0, 1).float() / 255
