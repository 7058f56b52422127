"""The settings of a grid, and the trials that they describe."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_type_hints

from pydantic import Field

from faceae import config
from faceae.config import Count, Model, Optim, Settings, Strict, Train
from faceae.errors import InputError

MAX_TRIALS = 1000
"""The most trials of a grid: a page and a table show all of them."""

FIXED = {"train.best_by"}
"""Settings that a grid cannot vary although their group can be varied: the trials are compared by this metric. The data
and the masks cannot vary either, because all trials share them."""


def _lists(group: type) -> Any:  # noqa: ANN401
    """Returns a dataclass with the fields of a group of settings, each of them a list of values to try."""
    prefix = group.__name__.lower()
    kinds: Any = get_type_hints(group, include_extras=True)
    fields = [
        (field.name, tuple[kinds[field.name], ...], dataclasses.field(default=()))
        for field in dataclasses.fields(group)
        if f"{prefix}.{field.name}" not in FIXED
    ]
    made = dataclasses.make_dataclass(f"{group.__name__}s", fields, bases=(Strict,), frozen=True)
    made.__doc__ = f"Lists of values to try for --{prefix}.*."
    made.__module__ = __name__
    return made


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


_GROUPS: dict[str, Any] = {"model": Models, "optim": Optims, "train": Trains}


@dataclasses.dataclass(frozen=True)
class Grid(Strict):
    """The settings to try: every combination of the listed values, at each of the points if any are given."""

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
    """How to run the trials."""

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
        if self.train.best_by == "last":
            raise InputError("--train.best-by last: a grid ranks its trials by an error; name one, such as hole_mse")
        least, most = self.scale.bounds or (1, 1)
        if least < most:
            raise InputError(
                f"--scale.workers {self.scale.workers}: the trials of a grid have a fixed number; give one"
            )


@dataclasses.dataclass(frozen=True)
class Point:
    """A trial to run.

    Attributes:
        name: the trial's number and values, in characters that a folder's name may have.
        values: the values of the fields that the grid varies, by dotted path ("optim.lr").
        settings: the trial's complete settings.
    """

    name: str
    values: dict[str, Any]
    settings: Settings


def points(settings: GridSettings) -> list[Point]:
    """Returns the trials of a grid, in the order in which the settings list them, without duplicates.

    Raises:
        InputError: the grid is empty or too large, a point cannot be read, or a trial's settings are not valid.
    """
    written = [_read(text) for text in settings.grid.points]
    lists = _given_lists(settings.grid)
    for path in lists:
        if any(path in values for values in written):
            raise InputError(
                f"{config.flag('grid', path)}: --grid.points sets {path} too; leave one of them out (--grid.points "
                "without a value empties it)"
            )
    if (asked := math.prod(map(len, lists.values())) * max(1, len(written))) > MAX_TRIALS:
        raise InputError(f"--grid: {asked} trials, and a grid has at most {MAX_TRIALS}; list fewer values")
    product = [dict(zip(lists, chosen, strict=True)) for chosen in itertools.product(*lists.values())]
    paths = list(dict.fromkeys([*itertools.chain(*written), *lists]))
    if not paths:
        raise InputError("--grid: nothing to compare; give a list of values, such as --grid.optim.lr 0.01 0.001 0.0001")
    trials = [_trial(settings, one | other) for one in written or [{}] for other in product]
    unique = {tuple(_value(trial, path) for path in paths): trial for trial in trials}
    digits = len(str(len(unique)))
    return [
        Point(_name(f"{number:0{digits}}", values), dict(zip(paths, values, strict=True)), trial)
        for number, (values, trial) in enumerate(unique.items(), 1)
    ]


def _given_lists(grid: Grid) -> dict[str, tuple[Any, ...]]:
    return {
        f"{name}.{field.name}": values
        for name, group in _GROUPS.items()
        for field in dataclasses.fields(group)
        if (values := getattr(getattr(grid, name), field.name))
    }


def _read(text: str) -> dict[str, str]:
    """Reads optim.name=adam,optim.lr=0.001 as a dictionary. Its values stay strings until `_trial` converts them."""
    values = {}
    for part in text.split(","):
        path, _, value = part.strip().partition("=")
        path = path.replace("-", "_")
        group, _, field = path.partition(".")
        known = {field.name for field in dataclasses.fields(_GROUPS[group])} if group in _GROUPS else set()
        if not value or field not in known:
            raise InputError(
                f"--grid.points {text}: {part.strip()!r} is not field=value with a field that a grid can vary, such as "
                "optim.lr=0.001"
            )
        values[path] = value
    return values


def _trial(settings: GridSettings, values: dict[str, Any]) -> Settings:
    tree = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Settings)}
    tree = dataclasses.asdict(Settings(**tree))
    for path, value in values.items():
        group, field = path.split(".")
        tree[group][field] = value
    return config.from_dict(tree, Settings)


def _value(settings: Settings, path: str) -> Any:  # noqa: ANN401
    group, field = path.split(".")
    return getattr(getattr(settings, group), field)


def _name(number: str, values: tuple[Any, ...]) -> str:
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join([number, *words]))
