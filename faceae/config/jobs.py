"""The settings of the jobs that prepare images and evaluate models."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from tyro.conf import Positional, arg

from faceae.config import (
    BoxCount,
    Count,
    Kind,
    Mask,
    Output,
    RunSettings,
    Source,
    Strict,
    TaskName,
    Uri,
    UriOrEmpty,
)
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
    task: TaskName | None = None
    """Of a model of several tasks: measure this one. By default each image gets one of them, as in validation."""
    anomaly: bool = False
    """Instead of measuring restorations, look for what does not belong on the faces, with a model of --task repair: a
    score for each image, and where."""
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
        if self.anomaly and (mask != MaskOverride() or self.noise.sigma or self.own_size or self.identity or self.task):
            raise InputError(
                "--anomaly: nothing is hidden from the model; give no --mask flag, and not --noise.sigma, --own-size, "
                "--identity or --task"
            )
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
