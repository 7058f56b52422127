"""The settings of the jobs other than training: prepare, evaluate and reconstruct."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from tyro.conf import Positional, arg

from faceae.config import BoxCount, Count, JobSettings, Kind, Mask, Output, RunSettings, Source, Strict, Uri, UriOrEmpty
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
class EvaluateData(Strict):
    """The images to measure on."""

    source: Annotated[Positional[tuple[Uri, ...]], arg(name="", metavar="SOURCE ...")] = ()
    """Where the images are: one or more sources of any kind that `faceae train` reads."""
    subset: Literal["all", "val"] = "all"
    """all: every image of the source.
    val: only the images that the model's own run kept for validation, recognized by their image_id.
    This needs the source that the model was trained on, because it lists the images there."""
    limit: Count | None = None
    """Use at most this many of these images: a random sample, the same every time."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Stop if more than this share of the images cannot be used."""
    verify: bool = False
    """First compare each file of a prepared set with the SHA-256 in its manifest.json, which reads the whole set:
    useful once, after a copy. Sizes and numbers of images are compared in any case."""


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

    def applied_to(self, mask: Mask) -> Mask:
        """Returns mask settings in which the values given here replace those of `mask`."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, ())}
        if self.kind and "image" not in self.kind and not self.images:
            given["images"] = None
        return dataclasses.replace(mask, **given)


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
    """The saved model: the folder model/ of a run or a grid, local or s3://bucket/path."""
    data: EvaluateData = EvaluateData()
    mask: MaskOverride = MaskOverride()
    batch_size: Count = 64
    """Images that each copy of the model processes at a time. The result does not depend on it."""
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


@dataclasses.dataclass(frozen=True)
class ReconstructSettings(JobSettings):
    """All settings of jobs/reconstruct.py."""

    model: Annotated[Positional[UriOrEmpty], arg(metavar="MODEL", help_behavior_hint="")] = ""
    """The saved model: the folder model/ of a run or a grid, local or s3://bucket/path."""
    source: Annotated[Positional[UriOrEmpty], arg(metavar="SOURCE", help_behavior_hint="")] = ""
    """The pictures to restore, each of any size: a source of any kind that `faceae train` reads."""
    dest: Annotated[Positional[UriOrEmpty], arg(metavar="DEST", help_behavior_hint="")] = ""
    """Folder or s3://bucket/path to which the restored pictures are written as PNG."""
    masks: Uri | None = None
    """Masks, white inside the hole, in a source of any kind that `faceae train` reads.
    A mask has the name of its picture, except for the extension.
    Without masks, the solid black boxes of 8x8 pixels or more in each picture are the holes."""
    scale: ReplicaScale = ReplicaScale()

    RESUME_HINT: ClassVar[str] = "the same command continues from where it stopped"
    POSITIONAL: ClassVar[dict[str, str]] = {"--model": "MODEL", "--source": "SOURCE", "--dest": "DEST"}

    def check(self) -> None:
        """Raises InputError if MODEL, SOURCE or DEST is missing."""
        for name, what in (("model", "model"), ("source", "pictures to restore"), ("dest", "place for the results")):
            if not getattr(self, name):
                raise InputError(
                    f"{name.upper()}: no {what} given; write MODEL SOURCE DEST, for example: out/ffhq/model in out"
                )
