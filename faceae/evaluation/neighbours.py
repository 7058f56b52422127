"""Finds the nearest latent vectors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

_QUERIES, _CHUNK = 256, 65536  # rows compared at a time: 64 MiB of distances


@torch.inference_mode()
def nearest(
    queries: NDArray[np.float32], latents: NDArray[np.float32], count: int, *, same: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Finds the latent vectors that are nearest to others, by their Euclidean distance.

    Args:
        queries: (Q, D), the vectors whose neighbours are wanted.
        latents: (N, D), the vectors among which they are sought.
        count: how many are wanted of each.
        same: whether the queries are the latents: then none is its own neighbour.

    Returns:
        The rows of the neighbours in `latents`, (Q, K), the nearest first, and their distances, (Q, K); K is `count`,
        or as many as there are.
    """
    count = min(count, len(latents) - same)
    rows, distances = [], []
    for start in range(0, len(queries), _QUERIES):
        wanted = torch.from_numpy(queries[start : start + _QUERIES])
        best = torch.full((len(wanted), 0), 0.0)
        found = torch.full((len(wanted), 0), 0)
        for first in range(0, len(latents), _CHUNK):
            apart = torch.cdist(wanted, torch.from_numpy(latents[first : first + _CHUNK]))
            numbers = torch.arange(first, first + apart.shape[1])
            if same:
                apart[torch.arange(start, start + len(wanted))[:, None] == numbers] = torch.inf
            best = torch.cat([best, apart], 1)
            found = torch.cat([found, numbers.expand(len(wanted), -1)], 1)
            best, order = best.topk(min(count, best.shape[1]), largest=False)
            found = found.gather(1, order)
        rows.append(found.numpy())
        distances.append(best.numpy())
    return np.concatenate(rows), np.concatenate(distances)
