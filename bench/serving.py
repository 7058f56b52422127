"""Has masks drawn as a job does: by a thread that fills the orders of a coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from faceae.cluster.coordinator import start_coordinator
from faceae.cluster.mask_drawing import draw_masks
from faceae.cluster.worker_groups import in_thread
from faceae.data.cache import Blocks
from faceae.data.dataset import FaceDataset
from faceae.data.epoch import EpochKey
from faceae.tasks import Inpaint

FIRST = EpochKey(seed=0, epoch=1, mirror=False)
"""The epoch whose masks are drawn as the images are decoded."""


def without_validation(train: Blocks, task: Inpaint) -> FaceDataset:
    """Returns training images, decoded with the masks of `FIRST`, as a data set."""
    return FaceDataset(train, FIRST, Blocks([], []), task, {}, 0.0)


@contextmanager
def serve(dataset: FaceDataset, coordinator: Any) -> Iterator[None]:  # noqa: ANN401  (an actor's handle)
    """Draws the masks that ranks ask the coordinator for; ends the coordinator in the end."""
    drawing = in_thread(lambda: draw_masks(coordinator, dataset, "bench"))
    try:
        yield
    finally:
        ray.kill(coordinator)
        drawing.result()


def ready_coordinator() -> Any:  # noqa: ANN401
    """Starts a coordinator and waits until it answers."""
    coordinator, _ = start_coordinator()
    ray.get(coordinator.wake.remote())
    return coordinator
