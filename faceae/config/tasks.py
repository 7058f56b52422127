"""The settings of the tasks: what is done to an image, and what is asked back."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from faceae.config.base import Strict
from faceae.errors import InputError

if TYPE_CHECKING:
    from faceae.config.settings import Settings

TaskName = Literal["inpaint", "denoise", "colorize", "upscale", "reconstruct"]

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
    task, size = settings.task, settings.data.image_size
    for name, group, default in (("denoise", settings.noise, Noise()), ("upscale", settings.upscale, Upscale())):
        if group != default and task != name:
            (field,) = dataclasses.fields(group)
            given = f"--{type(group).__name__.lower()}.{field.name} {getattr(group, field.name)}"
            raise InputError(f"{given}: it means nothing to --task {task}; use --task {name}, or leave it out")
    _check_noise(settings.noise)
    if size % settings.upscale.factor and task == "upscale":
        raise InputError(
            f"--upscale.factor {settings.upscale.factor}: {size} pixels cannot be divided by it; use another factor, "
            "or another --data.image-size"
        )
    if task == "reconstruct" and settings.model.name == "unet":
        raise InputError(
            "--task reconstruct: nothing is hidden, so a unet would pass the image on through its skip connections and "
            "learn nothing; use --model.name article"
        )


def _check_noise(noise: Noise) -> None:
    if not re.fullmatch(_LEVELS, str(noise.sigma)):
        raise InputError(f"--noise.sigma {noise.sigma}: write a number of levels of 255, or MIN:MAX as in 5:50")
    least, most = noise.sigmas
    if not 0 < least <= most <= 255:
        raise InputError(
            f"--noise.sigma {noise.sigma}: give levels above 0 and up to 255, the smaller one first, as in 5:50"
        )
