"""Notes at the start of a run or a grid on settings that are valid, but may not be what is meant."""

from __future__ import annotations

from faceae.config import Settings
from faceae.config.grid import GridSettings
from faceae.console import count, out

_SHOWS = 128
"""The size of image that mask.size is meant for unless it is given."""


def give(settings: Settings) -> None:
    """Prints the notes that apply to settings."""
    for text in (_easy_holes(settings), _short_grace(settings)):
        if text:
            out.print(f"note      {text}")


def _easy_holes(settings: Settings) -> str:
    size, hole = settings.data.image_size, settings.mask.size
    if size <= _SHOWS or "inpaint" not in settings.task or hole != type(settings.mask)().size:
        return ""
    return (
        f"holes of {hole} pixels hide less of a face of {size}x{size}, and are an easier task, than of "
        f"{_SHOWS}x{_SHOWS}; --mask.size {int(hole) * size // _SHOWS} hides as much"
    )


def _short_grace(settings: Settings) -> str:
    if not isinstance(settings, GridSettings) or settings.tune.scheduler == "none":
        return ""
    grace, epochs = settings.asha.grace_epochs, settings.train.epochs
    if grace > 1 or not 4 <= epochs <= 20:
        return ""
    lost = "go on as a copy of a better one" if settings.tune.scheduler == "pbt" else "be stopped"
    return (
        f"a trial that begins slowly may {lost} after {count(grace, 'epoch')} of {epochs}; --asha.grace-epochs "
        f"{max(2, epochs // 4)} gives each more"
    )
