"""The settings of the tasks: what is done to an image, and what is asked back."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from faceae.config.base import Strict
from faceae.errors import InputError

if TYPE_CHECKING:
    from faceae.config.settings import Settings

TaskName = Literal["inpaint", "denoise", "colorize", "upscale", "repair", "reconstruct"]

Tasks = Annotated[
    tuple[TaskName, ...],
    Field(min_length=1),
    # A single name, as older models have in their config.json.
    BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
]

_ALONE = {
    "repair": "its network has an output of its own",
    "reconstruct": "it needs a latent vector, and the other tasks what goes around it",
}
"""The tasks that are not learnt together with others, and why."""

_LEVEL = r"\d{1,3}(\.\d{1,6})?"
_LEVELS = f"{_LEVEL}(:{_LEVEL})?"


@dataclasses.dataclass(frozen=True)
class Noise(Strict):
    """What --task denoise adds."""

    sigma: int | float | str = "5:50"
    """Standard deviation of the Gaussian noise, in levels of 255.
    MIN:MAX (such as 5:50) draws one in this range for each image; the network is not told which."""

    @property
    def sigmas(self) -> tuple[float, float]:
        """The smallest and the largest standard deviation in levels of 255."""
        least, _, most = str(self.sigma).partition(":")
        return float(least), float(most or least)


@dataclasses.dataclass(frozen=True)
class Upscale(Strict):
    """What --task upscale takes away."""

    factor: Annotated[int, Field(ge=2, le=64)] = 4
    """How many times smaller each side is that the network is given: with 4, an image of 128x128 is given as 32x32."""


def check_task(settings: Settings) -> None:
    """Raises InputError if the settings of a task contradict each other."""
    named, size = settings.task, settings.data.image_size
    for task in named:
        if named.count(task) > 1:
            raise InputError(f"--task {' '.join(named)}: {task} is there twice; name each task once")
        if len(named) > 1 and task in _ALONE:
            raise InputError(f"--task {' '.join(named)}: {task} cannot be learnt with others: {_ALONE[task]}")
    for task, group, default in (("denoise", settings.noise, Noise()), ("upscale", settings.upscale, Upscale())):
        if group != default and task not in named:
            (field,) = dataclasses.fields(group)
            given = f"--{type(group).__name__.lower()}.{field.name} {getattr(group, field.name)}"
            raise InputError(
                f"{given}: it means nothing to --task {' '.join(named)}; use --task {task}, or leave it out"
            )
    _check_noise(settings.noise)
    if size % settings.upscale.factor and "upscale" in named:
        raise InputError(
            f"--upscale.factor {settings.upscale.factor}: {size} pixels cannot be divided by it; use another factor, "
            "or another --data.image-size"
        )
    if settings.model.name == "unet" and "reconstruct" in named:
        raise InputError(
            "--task reconstruct: nothing is hidden, so a unet would pass the image on through its skip connections and "
            "learn nothing; use --model.name article"
        )
    if settings.model.name != "unet" and "repair" in named:
        raise InputError(f"--task repair: use --model.name unet; {settings.model.name} cannot say what is wrong")


def _check_noise(noise: Noise) -> None:
    if not re.fullmatch(_LEVELS, str(noise.sigma)):
        raise InputError(f"--noise.sigma {noise.sigma}: write a number of levels of 255, or MIN:MAX as in 5:50")
    least, most = noise.sigmas
    if not 0 < least <= most <= 255:
        raise InputError(
            f"--noise.sigma {noise.sigma}: give levels above 0 and up to 255, the smaller one first, as in 5:50"
        )
