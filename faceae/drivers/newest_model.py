"""Which model a job takes when none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import ArrowException

from faceae import storage
from faceae.data.sources import SYNTHETIC
from faceae.errors import InputError

RUNS = "out"
"""The folder in which the newest model is looked for: the default of --run.storage."""


class Chosen(NamedTuple):
    """A model to use.

    Attributes:
        model: URI of its folder; None stands for the network that comes with faceae.
        note: how it was chosen, for people to read.
    """

    model: str | None
    note: str


def newest_model(given: str | None, flag: str = "--model") -> Chosen:
    """Chooses a model: the one that is given, or else the newest in `RUNS` that fits photographs.

    Args:
        given: the model that the flag names; None if it is not given.
        flag: what names a model; used in the note.
    """
    if given is not None:
        return Chosen(given, "")
    found = [weights.parent for weights in Path(RUNS).glob("*/model/model.safetensors")]
    photographic = [folder for folder in found if _fits_photographs(folder)]
    if photographic:
        newest = max(photographic, key=lambda folder: (folder / "model.safetensors").stat().st_mtime)
        return Chosen(str(newest), f" (the newest of {len(photographic)} in {RUNS}/*/model; {flag} names another)")
    runs = sorted(path.parent.name for path in Path(RUNS).glob("*/config.json"))
    if found:
        there = f"those in {RUNS}/*/model know drawn portraits only, or fill no holes ({flag} names one of the former)"
    elif runs:
        there = f"the runs in {RUNS}, {', '.join(runs)}, have no model yet"
    else:
        there = f"no run is in {Path(RUNS).resolve()}"
    return Chosen(
        None,
        f"{there}. It continues what is near a hole and knows nothing of faces; for a hole over an eye or a mouth, "
        "train a model: faceae train --preset restore --data.source path/to/faces",
    )


def _fits_photographs(folder: Path) -> bool:
    """Whether a model fills holes and knows more than drawn portraits; what is damaged `models.load` refuses."""
    sources = _setting(str(folder), "data", "source")
    drawn = isinstance(sources, list) and all(str(uri).startswith(SYNTHETIC) for uri in sources)
    return not drawn and tasks_of(str(folder)) == ["inpaint"]


def tasks_of(model: str) -> list[str]:
    """Returns the tasks that a model was trained for, without torch; what is damaged `models.load` refuses."""
    named = _setting(model, "task") or "inpaint"
    return [named] if isinstance(named, str) else named


def _setting(model: str, *path: str) -> Any:  # noqa: ANN401
    """Returns a setting that a model was trained with, without torch; None if there is none, or nothing can be read.

    It is not checked: that is for `models.load`, which says what is wrong.
    """
    try:
        storage.info(model)  # is not retried, so that a wrong endpoint costs no time here
        found = storage.read_json(storage.join(model, "config.json"))["settings"]
        for name in path:
            found = found[name]
    except (OSError, ValueError, LookupError, TypeError, ArrowException, InputError):
        return None
    return found
