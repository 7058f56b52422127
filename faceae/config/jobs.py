"""The settings of the jobs other than training: preparing, evaluating, reconstructing."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from tyro.conf import Positional, arg

from faceae.config import JobSettings, Kind, Mask, Output, RunSettings, Source, Strict
from faceae.errors import InputError


@dataclasses.dataclass(frozen=True)
class Shard(Strict):
    """The files of decoded images."""

    megabytes: PositiveFloat = 100.0
    """Size of a Parquet file at most; a small set is divided more finely, so that several cores have work."""


@dataclasses.dataclass(frozen=True)
class PrepareSettings(RunSettings):
    """All settings of jobs/prepare.py."""

    data: Source = dataclasses.field(default_factory=Source)
    shard: Shard = Shard()
    run: Output = dataclasses.field(default_factory=Output)

    FREE_ON_RESUME: ClassVar[frozenset[str]] = frozenset({"run", "data.max_rejected_fraction"})

    @property
    def makes(self) -> str:
        """What the run makes, for its default name."""
        return f"faces-{self.data.image_size}"


@dataclasses.dataclass(frozen=True)
class EvaluateData(Strict):
    """Which images to measure on."""

    source: Annotated[Positional[tuple[str, ...]], arg(name="", metavar="SOURCE ...")] = ()
    """Where the images are: one or several of all that jobs/train.py reads."""
    subset: Literal["all", "val"] = "all"
    """val: only the images that the model's own run kept for validation, told by their image_id; the source that it
    was trained on is listed for that."""
    limit: PositiveInt | None = None
    """Use at most so many of these images: the same random sample every time."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Stop when a larger share of the images cannot be used."""


@dataclasses.dataclass(frozen=True)
class MaskOverride(Strict):
    """What is hidden, where it is not to be what the model was trained with; see jobs/train.py --help."""

    kind: tuple[Kind, ...] = ()
    """Of several kinds each image has one; the result is then shown by kind, too."""
    size: int | str | None = None
    """In pixels, or MIN:MAX."""
    count: PositiveInt | None = None
    """Boxes in an image."""
    images: str | None = None
    """For the kind image: masks of your own."""

    def applied_to(self, mask: Mask) -> Mask:
        """Those masks with what is given here."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, ())}
        if self.kind and "image" not in self.kind and not self.images:
            given["images"] = None
        return dataclasses.replace(mask, **given)


@dataclasses.dataclass(frozen=True)
class ReplicaScale(Strict):
    """What to run on."""

    gpu: Literal["auto", "on", "off"] = "auto"
    """auto: a copy of the model on each GPU of the cluster, if it has any; else on CPUs."""


@dataclasses.dataclass(frozen=True)
class EvaluateOutput(Output):
    """Where the results go."""

    resume: bool = False
    """Show the evaluation of this name if it is finished; otherwise start it over."""


@dataclasses.dataclass(frozen=True)
class EvaluateSettings(RunSettings):
    """All settings of jobs/evaluate.py."""

    model: Annotated[Positional[str], arg(metavar="MODEL")] = ""
    """A saved model: the folder model/ of a run or a grid, local or s3://bucket/path."""
    data: EvaluateData = EvaluateData()
    mask: MaskOverride = MaskOverride()
    batch_size: PositiveInt = 64
    """Images that a copy of the model takes at a time; the result does not depend on it."""
    scale: ReplicaScale = ReplicaScale()
    run: EvaluateOutput = EvaluateOutput()

    FREE_ON_RESUME: ClassVar[frozenset[str]] = frozenset({"run", "scale", "batch_size", "data.max_rejected_fraction"})
    SOURCE: ClassVar[str] = "SOURCE"

    @property
    def makes(self) -> str:
        """What the run makes, for its default name."""
        return "evaluation"

    def check(self) -> None:
        """Raises InputError if the model or the source is missing."""
        if not self.model:
            raise InputError(
                "MODEL: no model is given; name the folder of a saved one, as in out/ffhq/model, then SOURCE"
            )
        super().check()


@dataclasses.dataclass(frozen=True)
class ReconstructSettings(JobSettings):
    """All settings of jobs/reconstruct.py."""

    model: Annotated[Positional[str], arg(metavar="MODEL", help_behavior_hint="")] = ""
    """A saved model: the folder model/ of a run or a grid, local or s3://bucket/path."""
    source: Annotated[Positional[str], arg(metavar="SOURCE", help_behavior_hint="")] = ""
    """The pictures to restore, of any size: all that jobs/train.py reads."""
    dest: Annotated[Positional[str], arg(metavar="DEST", help_behavior_hint="")] = ""
    """Folder or s3://bucket/path for the restored pictures, as PNG."""
    masks: str | None = None
    """Masks, white where the hole is, each named as its picture but for the extension: all that jobs/train.py reads.
    Without them the holes are the solid black boxes of the pictures, of 8x8 pixels or more."""
    scale: ReplicaScale = ReplicaScale()

    RESUME_HINT: ClassVar[str] = "the same command goes on from where it stopped"

    def check(self) -> None:
        """Raises InputError if one of the three is missing."""
        for name, what in (("model", "model"), ("source", "pictures to restore"), ("dest", "place for the results")):
            if not getattr(self, name):
                raise InputError(
                    f"{name.upper()}: no {what} given; write MODEL SOURCE DEST, as in out/ffhq/model in out"
                )
