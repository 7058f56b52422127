"""The tasks: what is done to an image, and what a network is to give back. Each is a file of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from faceae.config import Settings, TaskName
from faceae.tasks.base import Task
from faceae.tasks.colorize import Colorize
from faceae.tasks.denoise import Denoise
from faceae.tasks.inpaint import Inpaint
from faceae.tasks.reconstruct import Reconstruct
from faceae.tasks.repair import Repair
from faceae.tasks.several import Several
from faceae.tasks.upscale import Upscale

__all__ = ["Colorize", "Denoise", "Inpaint", "Reconstruct", "Repair", "Several", "Task", "Upscale", "create"]


def create(settings: Settings, library: Callable[[], NDArray[np.uint8]] | None = None) -> Task:
    """Returns the task that the settings name, or what draws one of several for each image.

    Args:
        settings: the settings of a run.
        library: returns the user's own masks, see `Inpaint`.
    """
    made = tuple(_create(name, settings, library) for name in settings.task)
    return Several(made, settings.task) if len(made) > 1 else made[0]


def _create(name: TaskName, settings: Settings, library: Callable[[], NDArray[np.uint8]] | None) -> Task:
    size = settings.data.image_size
    match name:
        case "inpaint":
            return Inpaint(settings.mask, size, library)
        case "denoise":
            return Denoise(settings.noise, size)
        case "colorize":
            return Colorize(size)
        case "upscale":
            return Upscale(settings.upscale.factor, size)
        case "repair":
            return Repair(size)
        case "reconstruct":
            return Reconstruct(size, settings.model.latent_dim)
