"""The driver of `faceae restore`: one picture, in this process, without Ray."""

from __future__ import annotations

import time
from pathlib import PurePosixPath

from pyarrow import ArrowException

from faceae import config, storage
from faceae.config.restore import RestoreSettings
from faceae.console import out
from faceae.corruption import edges
from faceae.data.metadata import FORMATS, encode
from faceae.data.whole import open_picture, open_whole
from faceae.drivers.newest_model import newest_model, tasks_of
from faceae.errors import InputError


def restore(settings: RestoreSettings) -> None:
    """Restores a picture and writes it, as docs/usage.md describes it.

    Raises:
        InputError: the input is wrong.
    """
    settings, start = config.validate(settings), time.monotonic()
    extension = _extension(settings)
    source = newest_model(settings.model)
    tasks = [settings.task] if settings.task else tasks_of(source.model) if source.model else ["inpaint"]
    whole = tasks != ["inpaint"]
    if whole:
        _check_whole(settings)
        picture, hole = open_whole(settings.picture), None
    else:
        picture, hole = open_picture(settings.picture, settings.mask, settings.grow)
    from faceae import models  # imports torch, which takes 2 s: a wrong path is said before

    model = models.load(source.model) if source.model else models.SurroundingsModel()
    if isinstance(model, models.Restorer):
        model = model.for_task(settings.task) if settings.task else model
        trained = model.settings
        about = f"{trained.model.name}, trained on {' '.join(trained.data.source)} at {trained.data.image_size}"
        task = f"--task {' '.join(trained.task)}, " if whole else ""
        out.print(f"model     {source.model}: {task}{about}{source.note}")
    else:
        out.print(f"model     the network for scratches that comes with faceae, since {source.note}")
    if hole is None:
        assert isinstance(model, models.Restorer)
        made = model.redo(picture.pixels)
        said = f"{made.shape[1]}x{made.shape[0]} pixels"
    else:
        (made,) = model.restore([picture.pixels], [hole])
        edges.feather(made, picture.pixels, hole, settings.feather)
        said = f"{int(hole.sum()):,} of {made.shape[1]}x{made.shape[0]} pixels"
    metadata = picture.metadata
    if isinstance(model, models.Restorer) and model.gives_colours:
        metadata = metadata.coloured()
    del picture, hole
    try:
        storage.write(storage.absolute(settings.out), encode(made, metadata, extension))
    except (OSError, ArrowException) as error:
        raise InputError(f"OUT {storage.explain(error, settings.out)}") from None
    seconds = time.monotonic() - start
    out.print(f"restored  {settings.out}: {said}, in {seconds:.1f} s")


def _check_whole(settings: RestoreSettings) -> None:
    """Raises InputError if a flag is given that means nothing to a model that asks for every pixel."""
    for flag, given in (("--mask", settings.mask), ("--grow", settings.grow), ("--feather", settings.feather)):
        if given:
            raise InputError(f"{flag} {given}: the model changes the whole picture and fills no holes; leave it out")


def _extension(settings: RestoreSettings) -> str:
    """Returns the extension of the file to write, which says its format.

    Raises:
        InputError: the format is not that of --format, or the file is one of those that are read.
    """
    read = [uri for uri in (settings.picture, settings.mask) if uri]
    if storage.absolute(settings.out) in map(storage.absolute, read):
        raise InputError(f"OUT {settings.out}: this file is read, and would be replaced; write to another one")
    extension = PurePosixPath(settings.out).suffix.lower()
    own = PurePosixPath(settings.picture).suffix.lower()
    wanted = own if settings.format == "source" and own in FORMATS else ".png"
    if FORMATS.get(extension) != FORMATS[wanted]:
        hint = "; with --format source the result has the format of PICTURE" if own == extension else ""
        raise InputError(f"OUT {settings.out}: with --format {settings.format} it is a {wanted}, so name it so{hint}")
    return extension
