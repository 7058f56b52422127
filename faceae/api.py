"""The jobs as Python functions, with the settings, the results and the errors of the command line.

    import faceae

    run = faceae.train("restore", data={"source": "path/to/faces"}, run={"name": "faces"})
    print(run.summary["of_best"], "times the error of", run.summary["best_baseline"])
    model = faceae.load(f"{run.folder}/model")

A group of settings is a dictionary of some of its fields, whose names are those of the flags with `_` for `-`, or its
dataclass from `faceae.config`. Nested groups are nested dictionaries, such as `grid={"optim": {"lr": [0.01, 0.001]}}`.
"""

from __future__ import annotations

import dataclasses
import io
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pyarrow import ArrowException

from faceae import config, storage
from faceae.commands import COMMANDS
from faceae.config import JobT, Settings, SettingsT, presets
from faceae.config.embed import EmbedSettings
from faceae.config.grid import GridSettings
from faceae.config.jobs import EvaluateSettings, PrepareSettings
from faceae.config.restore import ReconstructSettings
from faceae.config.serve import ServeSettings
from faceae.errors import InputError
from faceae.run_folder import RunFolder

if TYPE_CHECKING:
    from pandas import DataFrame


class Result(NamedTuple):
    """What a job leaves.

    Attributes:
        folder: the folder of its files, local or in a bucket.
        summary: what its JSON file says: `summary.json`, of a grid `grid.json`, of a preparation `manifest.json`.
    """

    folder: str
    summary: dict[str, Any]


class Grid(NamedTuple):
    """What a grid has found so far.

    Attributes:
        folder: the grid's folder, local or in a bucket.
        summary: the content of `grid.json`.
    """

    folder: str
    summary: dict[str, Any]

    def table(self) -> DataFrame:
        """Returns a row for each trial, best first: the settings that the grid varies, its state and its metrics."""
        import pandas

        return pandas.read_csv(io.BytesIO(storage.read(storage.join(self.folder, "grid.csv"))))


def train(preset: str | Settings = "demo", **changes: Any) -> Result:  # noqa: ANN401
    """Trains one model, as `faceae train` does.

    Args:
        preset: the name of a preset, or settings, to start from.
        **changes: what differs from it: `task`, and the groups `data`, `mask`, `noise`, `upscale`, `model`, `optim`,
            `train`, `scale` and `run`, each a dictionary of some of its fields or its dataclass from `faceae.config`.

    Raises:
        InputError: the input is wrong.
        RunFailedError: the run failed.
    """
    return _in_folder("train", _changed(_start(preset, Settings), changes))


def tune(preset: str | GridSettings = "demo-grid", **changes: Any) -> Grid:  # noqa: ANN401
    """Compares settings, as `faceae tune` does; see `train`. A grid has the groups `grid`, `asha` and `tune`, too."""
    return Grid(*_in_folder("tune", _changed(_start(preset, GridSettings), changes)))


def grid(folder: str) -> Grid:
    """Returns a grid that `tune` has left, finished or not.

    Args:
        folder: the grid's folder, such as `out/grid`, local or in a bucket.

    Raises:
        InputError: no grid is there.
    """
    uri = storage.absolute(folder)
    try:
        return Grid(uri, storage.read_object(storage.join(uri, "grid.json")))
    except FileNotFoundError:
        raise InputError(f"{folder}: no grid is there, which has a grid.json; check the path") from None
    except (OSError, ArrowException) as error:
        raise storage.explain(error, folder) from None


def prepare(**groups: Any) -> Result:  # noqa: ANN401
    """Decodes images into shards, as `faceae prepare` does; groups are `data`, `shard`, `run`; see `train`."""
    return _in_folder("prepare", _changed(PrepareSettings(), groups))


def evaluate(model: str, *source: str, **groups: Any) -> Result:  # noqa: ANN401
    """Measures a model on images, as `faceae evaluate` does.

    Args:
        model: the saved model.
        *source: where the images are.
        **groups: `data`, `mask`, `noise`, `scale` and `run`, and single settings such as `own_size=True`.

    Raises:
        InputError: the input is wrong.
        RunFailedError: the storage or the cluster failed.
    """
    return _in_folder("evaluate", _changed(EvaluateSettings(), _of_model(model, source, groups)))


def embed(model: str, *source: str, **groups: Any) -> Result:  # noqa: ANN401
    """Writes the latent vectors of images, as `faceae embed` does; see `evaluate`."""
    return _in_folder("embed", _changed(EmbedSettings(), _of_model(model, source, groups)))


def reconstruct(model: str, source: str, dest: str, **groups: Any) -> Result:  # noqa: ANN401
    """Restores pictures in bulk, as `faceae reconstruct` does.

    Args:
        model: the saved model.
        source: the pictures.
        dest: where the restored ones are written.
        **groups: `scale`, and single settings such as `masks="path/to/masks"`.

    Raises:
        InputError: the input is wrong.
        RunFailedError: the storage or the cluster failed.
    """
    settings = _changed(ReconstructSettings(), {"model": model, "source": source, "dest": dest} | groups)
    return Result(storage.absolute(dest), _drive("reconstruct", settings))


def serve(model: str = "", **settings: Any) -> None:  # noqa: ANN401
    """Serves a model until Ctrl-C, as `faceae serve` does.

    Args:
        model: the saved model; by default the newest in `out`.
        **settings: `limit`, and single settings such as `port=9000`.

    Raises:
        InputError: the input is wrong, or the extra is not installed.
        RunFailedError: the service could not be started.
    """
    _drive("serve", _changed(ServeSettings(), {"model": model} | settings))


def _start(preset: str | SettingsT, kind: type[SettingsT]) -> SettingsT:
    return presets.find(preset, kind) if isinstance(preset, str) else preset


def _of_model(model: str, source: tuple[str, ...], groups: Mapping[str, Any]) -> dict[str, Any]:
    return {**groups, "model": model, "data": {**_fields(groups.get("data", {})), "source": source}}


def _in_folder(job: str, settings: SettingsT) -> Result:
    folder = RunFolder(settings)
    return Result(folder.uri, _drive(job, folder.settings))


def _drive(job: str, settings: Any) -> dict[str, Any]:  # noqa: ANN401
    # Imported only once the settings are valid: Ray and torch take seconds.
    summary: dict[str, Any] = pkgutil.resolve_name(COMMANDS[job].driver)(settings)
    return summary


def _changed(start: JobT, changes: Mapping[str, Any]) -> JobT:
    """Returns settings with some changes, checked; raises InputError if one of them is wrong."""
    return config.from_dict(_merged(config.to_dict(start), changes), type(start))


def _merged(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for name, change in changes.items():
        before, after = tree.get(name), _fields(change)
        if isinstance(before, dict) and isinstance(after, Mapping):
            merged[name] = _merged(before, after)
        else:  # a setting of several values takes a single one, too, as on the command line
            merged[name] = [after] if isinstance(before, list) and isinstance(after, str) else after
    return merged


def _fields(group: Any) -> Any:  # noqa: ANN401
    """Returns a group of settings as a dictionary, and anything else as it is."""
    return dataclasses.asdict(group) if dataclasses.is_dataclass(group) and not isinstance(group, type) else group
