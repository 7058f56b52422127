"""The settings of jobs/embed.py."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from pydantic import Field
from tyro.conf import Positional, arg

from faceae.config import Count, Output, RunSettings, Uri, UriOrEmpty
from faceae.config.jobs import ImagesOfModel, ReplicaScale
from faceae.errors import InputError


@dataclasses.dataclass(frozen=True)
class EmbedSettings(RunSettings):
    """All settings of jobs/embed.py."""

    model: Annotated[Positional[UriOrEmpty], arg(metavar="MODEL")] = ""
    """The saved model: the folder model/ of a run or a grid, local or s3://bucket/path."""
    data: ImagesOfModel = dataclasses.field(default_factory=ImagesOfModel)
    neighbours: Annotated[int, Field(ge=0, le=1000)] = 0
    """Also find this many pictures of SOURCE that are nearest to each picture of queries; 0 finds none."""
    queries: tuple[Uri, ...] = ()
    """The pictures whose neighbours are wanted, one or more sources.
    Without it, those of SOURCE itself; a picture is not its own neighbour."""
    batch_size: Count = 64
    """Images that each copy of the model processes at a time."""
    scale: ReplicaScale = dataclasses.field(default_factory=ReplicaScale)
    run: Output = dataclasses.field(default_factory=Output)

    FREE_ON_RESUME: ClassVar[frozenset[str]] = frozenset(
        {"run", "scale", "batch_size", "neighbours", "queries", "data.max_rejected_fraction", "data.verify"}
    )
    SOURCE_FLAG: ClassVar[str] = "SOURCE"
    POSITIONAL: ClassVar[dict[str, str]] = {"--model": "MODEL", "--data.source": SOURCE_FLAG}

    @property
    def name_prefix(self) -> str:
        """The first part of the run's default name."""
        return "latents"

    def check(self) -> None:
        """Raises InputError if the model or the source is missing, or if queries are given without a number."""
        if not self.model:
            raise InputError(
                "MODEL: no model is given; name the folder of a saved model, such as out/ffhq/model, before SOURCE"
            )
        super().check()
        if self.queries and not self.neighbours:
            raise InputError("--queries: say how many neighbours are wanted of each of them, such as --neighbours 5")
