"""The settings of a grid; `faceae.config.points` makes its trials of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_type_hints

from pydantic import Field

from faceae.config import Count, Model, Optim, Settings, Strict, Train, space
from faceae.errors import InputError

MAX_TRIALS = 1000
"""The most trials of a grid: a page and a table show all of them."""

FIXED = {"train.best_by"}
"""Settings that a grid cannot vary although their group can be varied: the trials are compared by this metric. The data
and the masks cannot vary either, because all trials share them."""


CHANGEABLE = {"optim.lr", "train.loss", "train.kl"}
"""Settings that a run may change when it goes on from a checkpoint of another."""


def _lists(group: type) -> Any:  # noqa: ANN401
    """Returns a dataclass with the fields of a group of settings, each of them a list of values to try, or of numbers
    also a range."""
    prefix = group.__name__.lower()
    kinds: Any = get_type_hints(group, include_extras=True)
    tried: Any = {
        name: kind | space.range_of(number) if (number := number_of(kind)) else kind for name, kind in kinds.items()
    }
    fields = [
        (field.name, tuple[tried[field.name], ...], dataclasses.field(default=()))
        for field in dataclasses.fields(group)
        if f"{prefix}.{field.name}" not in FIXED
    ]
    made = dataclasses.make_dataclass(f"{group.__name__}s", fields, bases=(Strict,), frozen=True)
    made.__doc__ = f"Lists of values to try for --{prefix}.*."
    made.__module__ = __name__
    return made


def number_of(kind: Any) -> type | None:  # noqa: ANN401
    """Returns the type of a field's numbers, int or float, also where words are allowed; None if it has none."""
    if kind in (int, float):
        return kind
    return next(filter(None, map(number_of, get_args(kind))), None)


if TYPE_CHECKING:

    class Models(Strict):
        """The result of `_lists(Model)`, as the type checker sees it."""

        def __init__(self, **values: tuple[Any, ...]) -> None: ...

    class Optims(Models):
        """The result of `_lists(Optim)`, as the type checker sees it."""

    class Trains(Models):
        """The result of `_lists(Train)`, as the type checker sees it."""
else:
    Models, Optims, Trains = _lists(Model), _lists(Optim), _lists(Train)


GROUPS: dict[str, Any] = {"model": Models, "optim": Optims, "train": Trains}
"""The classes of the lists of values, by the names of the groups that a grid can vary."""


@dataclasses.dataclass(frozen=True)
class Grid(Strict):
    """The settings to try: every combination of the listed values, at each of the points if any are given. With
    tune.search random or optuna, a number may also have a range: --grid.optim.lr 1e-4:1e-1:log"""

    points: tuple[str, ...] = ()
    """Points of a grid that is not a full product, each written as field=value,field=value.
    For example: optim.name=adam,optim.lr=0.001 optim.name=sgd,optim.lr=0.01"""
    model: Models = dataclasses.field(default_factory=Models)
    optim: Optims = dataclasses.field(default_factory=Optims)
    train: Trains = dataclasses.field(default_factory=Trains)


@dataclasses.dataclass(frozen=True)
class Asha(Strict):
    """When to stop a trial that falls behind: asynchronous successive halving (Li et al., arxiv.org/abs/1810.05934)."""

    grace_epochs: Count = 1
    """Epochs that every trial gets. If this equals --train.epochs, no trial is stopped early."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0
    """Trials are compared at grace-epochs, and again each time their epochs have grown by this factor.
    Only the best 1/reduction-factor of the trials that got there so far continue."""


@dataclasses.dataclass(frozen=True)
class Tune(Strict):
    """How to choose and run the trials."""

    search: Literal["grid", "random", "optuna"] = "grid"
    """How trials are chosen from the values of --grid.*: grid, all combinations; random, tune.samples of them, drawn
    from tune.seed; optuna, one after the other, near what has been best so far (TPE; needs faceae[optuna])."""
    samples: Annotated[int, Field(gt=0, le=MAX_TRIALS)] = 16
    """random and optuna: number of trials."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """random and optuna: random seed of the choice."""
    scheduler: Literal["asha", "hyperband", "median", "pbt", "none"] = "asha"
    """Which trials stop early: asha, those that fall behind at a rung; hyperband, the same with three
    brackets whose rungs begin at asha.grace-epochs, and reduction-factor and its square times that, one at random for
    each trial; median, those that after asha.grace-epochs are worse than half of the others were on average; none.
    pbt does not compare settings, but changes them: after each asha.grace-epochs the worst quarter of the trials go on
    as copies of the best quarter, with other values of --grid.* (population-based training)."""
    concurrent: Literal["auto"] | Count = "auto"
    """Trials that run at the same time. auto: as many as the cluster has room for besides Ray Data.
    Up to six small trials (64 images of 128x128 a step, or less) then share a GPU, each with a CPU of its own;
    scale.gpus-per-worker 1 gives each trial a whole GPU.
    On a cluster that grows, give a number."""


@dataclasses.dataclass(frozen=True)
class GridSettings(Settings):
    """All settings of a grid: those of a run, which hold for every trial, and those that differ between the trials."""

    preset: str = "demo-grid"
    """Settings to start from; other flags override them.
    demo-grid: four trials on synthetic portraits.
    article-grid: the six settings for which the Keras article reports results (15 epochs each).
    The presets of `faceae train` (demo, article, restore) are starting points for a grid of your own."""
    grid: Grid = Grid()
    asha: Asha = Asha()
    tune: Tune = Tune()

    FREE_ON_RESUME: ClassVar[frozenset[str]] = frozenset({"preset", "run", "scale", "data.verify", "tune.concurrent"})

    def check(self) -> None:
        """Raises InputError if values contradict each other."""
        super().check()
        if self.tune.search != "grid" and self.grid.points:
            raise InputError(
                f"--grid.points: points are a grid; --tune.search {self.tune.search} chooses from lists and ranges "
                "(--grid.points without a value empties it)"
            )
        if self.train.best_by == "last":
            raise InputError("--train.best-by last: a grid ranks its trials by an error; name one, such as hole_mse")
        least, most = self.scale.bounds or (1, 1)
        if least < most:
            raise InputError(
                f"--scale.workers {self.scale.workers}: the trials of a grid have a fixed number; give one"
            )
