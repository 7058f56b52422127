"""The trials that the settings of a grid describe: points in the space of what it varies."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_type_hints

from faceae import config
from faceae.config import Settings, space
from faceae.config.grid import CHANGEABLE, GROUPS, MAX_TRIALS, Grid, GridSettings, number_of
from faceae.config.space import Space
from faceae.errors import InputError


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


def known(settings: GridSettings) -> list[Point]:
    """Returns the trials that are known before the first one runs: all, but none if each depends on the ones before.

    They are in the order in which the settings list them or draws them, without duplicates.

    Raises:
        InputError: the grid is empty or too large, a point cannot be read, or a trial's settings are not valid.
    """
    if settings.tune.scheduler == "pbt":
        _check_population(settings)
    if settings.tune.search == "grid":
        return _product(settings)
    if settings.tune.search == "optuna":
        return []
    among, chance = searched(settings), random.Random(settings.tune.seed)
    drawn = [space.draw(among, chance) for _ in range(settings.tune.samples)]
    return _numbered(_unique(settings, list(among), drawn), settings.tune.samples)


def _check_population(settings: GridSettings) -> None:
    if settings.tune.search == "optuna" or settings.grid.points:
        raise InputError("--tune.scheduler pbt: needs lists or ranges, and --tune.search grid or random")
    if fixed := [path for path in searched(settings) if path not in CHANGEABLE]:
        changeable = ", ".join(config.flag("grid", path) for path in sorted(CHANGEABLE))
        raise InputError(
            f"{config.flag('grid', fixed[0])}: --tune.scheduler pbt changes settings in mid-run, which is possible "
            f"with {changeable}"
        )


def checked(settings: GridSettings) -> list[Point]:
    """Returns trials that show whether all of a grid can be trained; see `known`."""
    if listed := known(settings):
        return listed
    among = searched(settings)
    return _numbered(_unique(settings, list(among), space.corners(among)))


def searched(settings: GridSettings) -> Space:
    """Returns from what a search chooses its trials.

    Raises:
        InputError: nothing is to be varied, or a setting has a range and other values, too.
    """
    found: dict[str, Any] = {}
    for path, values in _given_lists(settings.grid).items():
        ranges = [value for value in values if space.is_range(value)]
        if ranges and len(values) > 1:
            raise InputError(f"{config.flag('grid', path)}: give one range, or a list of values")
        found[path] = space.interval(ranges[0], _kind(path)) if ranges else values
    if not found:
        raise _nothing()
    return found


def _kind(path: str) -> type:
    group, field = path.split(".")
    return number_of(get_type_hints(GROUPS[group])[field]) or float


def proposed(settings: GridSettings, number: int, values: dict[str, Any]) -> Point:
    """Returns the trial with this number, counted from 1, and with values that a search has chosen.

    Raises:
        InputError: the trial's settings are not valid.
    """
    (one,) = _unique(settings, list(values), [values])
    return _numbered([one], settings.tune.samples, number)[0]


def _product(settings: GridSettings) -> list[Point]:
    written = [_read(text) for text in settings.grid.points]
    lists = _given_lists(settings.grid)
    for path, values in lists.items():
        if any(space.is_range(value) for value in values):
            raise InputError(f"{config.flag('grid', path)}: a range needs --tune.search random or optuna")
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
        raise _nothing()
    return _numbered(_unique(settings, paths, [one | other for one in written or [{}] for other in product]))


def _nothing() -> InputError:
    return InputError("--grid: nothing to compare; give a list of values, such as --grid.optim.lr 0.01 0.001 0.0001")


_Chosen = tuple[dict[str, Any], Settings]
"""The values of what a grid varies, and all settings of the trial."""


def _unique(settings: GridSettings, paths: Sequence[str], asked: Iterable[dict[str, Any]]) -> list[_Chosen]:
    """Returns a trial for each dictionary of values, each as its field's type, without duplicates."""
    unique = {}
    for values in asked:
        trial = _trial(settings, values)
        unique[tuple(value(trial, path) for path in paths)] = trial
    return [(dict(zip(paths, values, strict=True)), trial) for values, trial in unique.items()]


def _numbered(chosen: Sequence[_Chosen], most: int = 0, first: int = 1) -> list[Point]:
    digits = len(str(most or len(chosen)))
    return [
        Point(_name(f"{number:0{digits}}", tuple(values.values())), values, trial)
        for number, (values, trial) in enumerate(chosen, first)
    ]


def _given_lists(grid: Grid) -> dict[str, tuple[Any, ...]]:
    return {
        f"{name}.{field.name}": values
        for name, group in GROUPS.items()
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
        known = {field.name for field in dataclasses.fields(GROUPS[group])} if group in GROUPS else set()
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


def value(settings: Settings, path: str) -> Any:  # noqa: ANN401
    """Returns a setting by its dotted path."""
    group, field = path.split(".")
    return getattr(getattr(settings, group), field)


def _name(number: str, values: tuple[Any, ...]) -> str:
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join([number, *words]))
