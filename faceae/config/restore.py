"""The settings of the jobs that restore pictures: one, or many."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from tyro.conf import Positional, arg

from faceae.config import JobSettings, TaskName, Uri, UriOrEmpty
from faceae.config.jobs import ReplicaScale
from faceae.errors import InputError

Edge = Annotated[int, Field(ge=0, le=100)]
"""A width in pixels at the edge of a hole."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreOptions(JobSettings):
    """How holes are filled and results written, for one picture as for many."""

    grow: Edge = 0
    """Make each hole larger by this many pixels to each side: for masks that leave the soft rim of a scratch."""
    task: TaskName | None = None
    """Of a model of several tasks: which one to do."""
    feather: Edge = 0
    """Blend the outer pixels of a hole, this many, with what the picture has there. What is outside of the hole stays
    to the bit; so for a mask that ends where the damage does, give --grow, too: --grow 4 --feather 4."""
    format: Literal["png", "source"] = "png"
    """png: every known pixel stays as it is, to the bit, which JPEG cannot promise.
    source: the format of the picture's own name. A JPEG gets the quantization tables of its source, and known pixels
    change by a little, as they do each time a JPEG is saved; WebP is written lossless. GIF becomes PNG.
    Either way the result is RGB (or grey, if the picture is) of 8 bits: 16-bit samples are scaled, and transparent
    pictures are laid over white. EXIF, the colour profile, XMP and the texts of a PNG are kept, as far as the format
    has them; pixels are upright, so the EXIF orientation is not."""

    @property
    def has_masks(self) -> bool:
        """Whether holes come from masks; otherwise they are black boxes."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises InputError if black boxes would shine through the blend."""
        if self.feather > self.grow and not self.has_masks:
            raise InputError(
                f"--feather {self.feather}: the holes are black boxes, which would shine through; give at least "
                f"--grow {self.feather}, too"
            )


@dataclasses.dataclass(frozen=True)
class RestoreSettings(RestoreOptions):
    """All settings of `faceae restore`."""

    picture: Annotated[Positional[UriOrEmpty], arg(metavar="PICTURE", help_behavior_hint="")] = ""
    """The picture to restore, of any size: PNG, JPEG, WebP, BMP, TIFF or GIF, local or s3://bucket/path."""
    out: Annotated[Positional[UriOrEmpty], arg(metavar="OUT", help_behavior_hint="")] = ""
    """The file to write: a .png, unless --format is source. A file of that name is replaced."""
    mask: Uri | None = None
    """The mask, white where the hole is; it is scaled to the picture's size.
    Without it, the solid black boxes of 8x8 pixels or more in the picture are the holes."""
    model: Uri | None = None
    """The saved model: the folder model/ of a run or a grid. By default the newest of out/*/model; if there is none, a
    network for scratches that comes with faceae and knows nothing of faces."""

    RESUME_HINT: ClassVar[str] = "nothing was written"
    POSITIONAL: ClassVar[dict[str, str]] = {"--picture": "PICTURE", "--out": "OUT"}

    @property
    def has_masks(self) -> bool:
        """Whether the hole comes from a mask."""
        return self.mask is not None

    def check(self) -> None:
        """Raises InputError if PICTURE or OUT is missing."""
        for name, what in (("picture", "picture to restore"), ("out", "file to write")):
            if not getattr(self, name):
                raise InputError(
                    f"{name.upper()}: no {what} given; write PICTURE OUT, for example: a.png --mask m.png restored.png"
                )
        if self.task and not self.model:
            raise InputError(f"--task {self.task}: it is one of a model's tasks; name the model with --model")
        super().check()


@dataclasses.dataclass(frozen=True)
class ReconstructSettings(RestoreOptions):
    """All settings of jobs/reconstruct.py."""

    model: Annotated[Positional[UriOrEmpty], arg(metavar="MODEL", help_behavior_hint="")] = ""
    """The saved model: the folder model/ of a run or a grid, local or s3://bucket/path."""
    source: Annotated[Positional[UriOrEmpty], arg(metavar="SOURCE", help_behavior_hint="")] = ""
    """The pictures to restore, each of any size: a source of any kind that `faceae train` reads."""
    dest: Annotated[Positional[UriOrEmpty], arg(metavar="DEST", help_behavior_hint="")] = ""
    """Folder or s3://bucket/path to which the restored pictures are written."""
    masks: Uri | None = None
    """Masks, white inside the hole, in a source of any kind that `faceae train` reads.
    A mask has the name of its picture, except for the extension. A single image file is the mask of all pictures of
    its size or shape (aspect ratio); the others are listed as rejected.
    Without masks, the solid black boxes of 8x8 pixels or more in each picture are the holes."""
    scale: ReplicaScale = dataclasses.field(default_factory=ReplicaScale)

    RESUME_HINT: ClassVar[str] = "the same command continues from where it stopped"
    POSITIONAL: ClassVar[dict[str, str]] = {"--model": "MODEL", "--source": "SOURCE", "--dest": "DEST"}

    @property
    def has_masks(self) -> bool:
        """Whether holes come from masks."""
        return self.masks is not None

    def check(self) -> None:
        """Raises InputError if MODEL, SOURCE or DEST is missing."""
        for name, what in (("model", "model"), ("source", "pictures to restore"), ("dest", "place for the results")):
            if not getattr(self, name):
                raise InputError(
                    f"{name.upper()}: no {what} given; write MODEL SOURCE DEST, for example: out/ffhq/model in out"
                )
        super().check()
