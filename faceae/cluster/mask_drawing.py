"""The driver's thread that draws the masks for which the training workers ask."""

from __future__ import annotations

import contextlib
from typing import Any

import ray

from faceae.cluster import gauges
from faceae.data.dataset import FaceDataset
from faceae.data.epoch_masks import MaskDrawer
from faceae.errors import one_line


def draw_masks(coordinator: Any, dataset: FaceDataset, job: str) -> None:  # noqa: ANN401  (an actor's handle)
    """Draws masks as the coordinator orders them, one Ray Data execution at a time, until it orders no more.

    Args:
        coordinator: the coordinator.
        dataset: the images.
        job: the folder of the run or the grid, for Ray's metrics.
    """
    drawer = MaskDrawer(dataset.train, dataset.task)
    drawn = [dataset.first_drawn]
    with contextlib.suppress(ray.exceptions.RayActorError):
        while True:
            gauges.masks(job, len(drawn) * len(dataset.train))
            ray.get(coordinator.put_masks.remote(drawn, drawer.capacity))
            order = ray.get(coordinator.next_masks.remote())
            if not order:
                return
            key, last = order
            try:
                drawn = drawer.draw(drawer.burst(key, last))
            except Exception as error:  # whatever it is, the workers that wait must hear of it
                ray.get(coordinator.fail_masks.remote(f"the masks of epoch {key.epoch}: {one_line(error)}"))
                return
