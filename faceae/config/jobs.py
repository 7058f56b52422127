"""The settings of the jobs other than training: prepare, evaluate and reconstruct."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from tyro.conf import Positional, arg

from faceae.config import BoxCount, Count, JobSettings, Kind, Mask, Output, RunSettings, Source, Strict, Uri, UriOrEmpty
from faceae.config.holes import parse
from faceae.errors import InputError


@dataclasses.dataclass(frozen=True)
class Shard(Strict):
    """The Parquet files of decoded images."""

    megabytes: Annotated[float, Field(ge=0.001, le=1e6)] = 100.0
    """Largest size of a Parquet file. A small set is split into smaller files, so that several cores have work."""


@dataclasses.dataclass(frozen=True)
class PrepareSettings(RunSettings):
    """All settings of jobs/prepare.py."""

    data: Source = dataclasses.field(default_factory=Source)
    shard: Shard = Shard()
    run: Output = dataclasses.field(default_factory=Output)

    FREE_ON_RESUME: ClassVar[frozenset[str]] = frozenset({"run", "data.max_rejected_fraction", "data.verify"})

    @property
    def name_prefix(self) -> str:
        """The first part of the run's default name: faces-SIZE."""
        return f"faces-{self.data.image_size}"


@dataclasses.dataclass(frozen=True)
class ImagesOfModel(Strict):
    """The images to look at with a model."""

    source: Annotated[Positional[tuple[Uri, ...]], arg(name="", metavar="SOURCE ...")] = ()
    """Where the images are: one or more sources of any kind that `faceae train` reads."""
    limit: Count | None = None
    """Use at most this many of these images: a random sample, the same every time."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Stop if more than this share of the images cannot be used."""
    verify: bool = False
    """First compare each file of a prepared set with the SHA-256 in its manifest.json, which reads the whole set:
    useful once, after a copy. Sizes and numbers of images are compared in any case."""


@dataclasses.dataclass(frozen=True)
class EvaluateData(ImagesOfModel):
    """The images to measure on."""

    subset: Literal["all", "val"] = "all"
    """all: every image of the source.
    val: only the images that the model's own run kept for validation, recognized by their image_id.
    This needs the source that the model was trained on, because it lists the images there."""


def _hole(text: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        raise PydanticCustomError("hole", "{wrong}", {"wrong": str(error)}) from None
    return text


OWN_SIZE_HOLES = ("box:30", "box:60", "box:120", "box:240", "strokes:4", "strokes:10", "strokes:24")
"""The holes of an evaluation at the pictures' own size, unless `--mask.holes` names others."""


@dataclasses.dataclass(frozen=True)
class MaskOverride(Strict):
    """What is hidden from the network, by default as in the model's training; see `faceae train --help`."""

    kind: tuple[Kind, ...] = ()
    """What to hide. With several kinds, each image gets one of them at random.
    The report then also shows the result for each kind."""
    size: int | str | None = None
    """Size of the mask in pixels, or MIN:MAX."""
    count: BoxCount | None = None
    """Number of boxes in an image."""
    images: Uri | None = None
    """For the kind image: a folder, zip, tar or Parquet file of your own masks, white inside the hole."""
    holes: Annotated[tuple[Annotated[str, AfterValidator(_hole)], ...], arg(metavar="KIND:SIZE ...")] = ()
    """With own-size: the holes in each picture, one after the other, in pixels of the picture.
    box:60 is a box of 60 pixels, box:60:3 are three of them, strokes:10 are brush strokes exactly 10 pixels wide.
    The default is box:30 box:60 box:120 box:240 strokes:4 strokes:10 strokes:24."""
    file: Uri | None = None
    """masks.parquet of an evaluation: measure the same images, with the same holes."""

    @property
    def drawn(self) -> dict[str, Any]:
        """Those settings for masks of the model's size that are given, by name."""
        given = dataclasses.asdict(self)
        return {name: given[name] for name in ("kind", "size", "count", "images") if given[name] not in (None, ())}

    def applied_to(self, mask: Mask) -> Mask:
        """Returns mask settings in which the values given here replace those of `mask`."""
        given = self.drawn
        if self.kind and "image" not in self.kind and not self.images:
            given["images"] = None
        return dataclasses.replace(mask, **given)


@dataclasses.dataclass(frozen=True)
class NoiseOverride(Strict):
    """What noise is added for a model of --task denoise, by default as in its training."""

    sigma: int | float | str | None = None
    """Standard deviation in levels of 255, or MIN:MAX."""


@dataclasses.dataclass(frozen=True)
class ReplicaScale(Strict):
    """What to run on."""

    gpu: Literal["auto", "on", "off"] = "auto"
    """auto: one copy of the model on each GPU of the cluster if it has any, otherwise copies on CPUs.
    on: only on GPUs. off: only on CPUs."""


@dataclasses.dataclass(frozen=True)
class EvaluateOutput(Output):
    """Where the results go."""

    resume: bool = False
    """Show the evaluation of this name if it is finished; otherwise start it again from the beginning."""


@dataclasses.dataclass(frozen=True)
class EvaluateSettings(RunSettings):
    """All settings of jobs/evaluate.py."""

    model: Annotated[Positional[UriOrEmpty], arg(metavar="MODEL")] = ""
    """The saved model: the folder model/ of a run or a grid, local or s3://bucket/path.
    With mask.file also a source of pictures that another program has restored, named like those of SOURCE."""
    data: EvaluateData = EvaluateData()
    mask: MaskOverride = MaskOverride()
    noise: NoiseOverride = NoiseOverride()
    batch_size: Count = 64
    """Images that each copy of the model processes at a time. The result does not depend on it."""
    own_size: bool = False
    """Restore each picture at its own size, as `faceae reconstruct` does, with the holes of mask.holes.
    Otherwise the centre square of each is scaled to the size at which the model was trained."""
    identity: bool = False
    """Also measure whether each restored face is still taken for the same person, with the extra faceae[identity]. It
    takes an eighth of a second a face. FFHQ's licence asks not to use its images for face recognition."""
    scale: ReplicaScale = ReplicaScale()
    run: EvaluateOutput = EvaluateOutput()

    FREE_ON_RESUME: ClassVar[frozenset[str]] = frozenset(
        {"run", "scale", "batch_size", "data.max_rejected_fraction", "data.verify"}
    )
    RESUME_HINT: ClassVar[str] = "with --run.resume and the same --run.name it starts over"
    SOURCE_FLAG: ClassVar[str] = "SOURCE"
    POSITIONAL: ClassVar[dict[str, str]] = {"--model": "MODEL", "--data.source": SOURCE_FLAG}

    @property
    def name_prefix(self) -> str:
        """The first part of the run's default name."""
        return "evaluation"

    def check(self) -> None:
        """Raises InputError if the model or the source is missing."""
        if not self.model:
            raise InputError(
                "MODEL: no model is given; name the folder of a saved model, such as out/ffhq/model, before SOURCE"
            )
        super().check()
        mask = self.mask
        if mask.file and (mask.drawn or mask.holes or self.data.limit or self.data.subset == "val"):
            raise InputError(
                "--mask.file: the file says which images to measure, and with which holes; give no other --mask flag, "
                "no --data.limit and no --data.subset with it"
            )
        if self.own_size and mask.drawn:
            raise InputError(
                f"--mask.{next(iter(mask.drawn))}: is for masks of the model's size; with --own-size name the holes "
                "with --mask.holes, such as box:60 strokes:10"
            )
        if mask.holes and not self.own_size:
            raise InputError(
                "--mask.holes: is for pictures at their own size; add --own-size, or use --mask.kind and --mask.size"
            )


Edge = Annotated[int, Field(ge=0, le=100)]
"""A width in pixels at the edge of a hole."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreOptions(JobSettings):
    """How holes are filled and results written, for one picture as for many."""

    grow: Edge = 0
    """Make each hole larger by this many pixels to each side: for masks that leave the soft rim of a scratch."""
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
    scale: ReplicaScale = ReplicaScale()

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
