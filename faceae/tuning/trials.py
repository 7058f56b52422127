"""The trials of a grid: their state, and how it is saved in grid.json and grid.csv."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from faceae import storage
from faceae.config import Settings
from faceae.config.points import Point
from faceae.metrics import NAMES
from faceae.run_folder import RunFolder
from faceae.training.progress import Progress, Record

State = Literal["pending", "running", "paused", "stopped", "finished", "pruned", "failed"]
OVER = ("finished", "pruned", "failed")
"""States of a trial that has nothing left to do."""


@dataclass
class Trial:
    """A trial: one run of the grid.

    Attributes:
        name: the name of the trial's folder.
        values: the values of the fields that differ within the grid, by the fields' paths.
        folder: the run's folder.
        state: `finished` after all epochs, `pruned` (stopped early), `failed` (see `reason`), or `stopped` together
            with the grid, which may be continued; in a population, `paused` until all have come as far.
        history: the record of each finished epoch, as in metrics.jsonl.
        reason: why the trial failed; empty if it did not.
        start_up_seconds: seconds from a free slot in the cluster to the start of the first epoch.
        device: name of the device that the trial trains on; empty before it has started.
        until: in a population, the epoch after which it pauses; 0 before it has been run.
        parent: in a population, the name of the trial that it began as a copy of; empty if it began anew.
        inherited: number of epochs that its parent had trained.
    """

    name: str
    values: dict[str, Any]
    folder: RunFolder[Settings]
    state: State = "pending"
    history: list[Record] = field(default_factory=list)
    reason: str = ""
    start_up_seconds: float = 0.0
    device: str = ""
    until: int = 0
    parent: str = ""
    inherited: int = 0

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def over(self) -> bool:
        """Whether the trial has nothing left to do."""
        return self.state in OVER

    @property
    def metric(self) -> str:
        """The metric by which the trials are ranked; the same for all of them."""
        return self.folder.settings.train.best_by

    @property
    def best(self) -> Record | None:
        """The record of the best epoch; None before the first."""
        return Progress(self.history).best(self.metric) if self.history else None

    @property
    def value(self) -> float:
        """The metric of the best epoch; infinite before the first."""
        return self.best["val"][self.metric] if self.best else float("inf")

    @property
    def training_seconds(self) -> float:
        """Seconds spent in epochs, without validation and without those of its parent."""
        return sum(record["seconds"] for record in self.history[self.inherited :])


def effort(trials: Sequence[Trial]) -> dict[str, int | None]:
    """Returns how many epochs were trained, for grid.json.

    Returns:
        `trial_epochs`; beside it `full_grid_trial_epochs`, what all trials would have trained to their end, and
        `saved_trial_epochs`, what stopping early saved of that: None where `--train.max-minutes` ended a trial before
        its last epoch, so that nobody knows.
    """
    epochs = [(trial, trial.folder.settings.train.epochs) for trial in trials]
    timed_out = any(trial.state == "finished" and trial.epochs < full for trial, full in epochs)
    pruned = sum(full - trial.epochs for trial, full in epochs if trial.state == "pruned")
    copied = sum(full - trial.inherited for trial, full in epochs if trial.parent)  # in place of pruned ones
    return {
        "trial_epochs": sum(trial.epochs - trial.inherited for trial in trials),
        "full_grid_trial_epochs": None if timed_out else sum(full for trial, full in epochs if not trial.parent),
        "saved_trial_epochs": None if timed_out else pruned - copied,
    }


def saved_rows(grid: RunFolder[Any]) -> dict[str, dict[str, Any]]:
    """Returns the rows of a continued grid's trials in its grid.json by the trials' names; none of a new grid."""
    uri = grid.path("grid.json")
    return {row["trial"]: row for row in storage.read_json(uri)["trials"]} if storage.exists(uri) else {}


def open_trials(points: Sequence[Point], grid: RunFolder[Any]) -> list[Trial]:
    """Opens the folders of a grid's trials; the trials of a continued grid have the state in which they were left.

    Raises:
        InputError: a trial's folder cannot be written, or holds a different run.
    """
    saved = saved_rows(grid)
    trials = []
    for point in points:
        trial = open_trial(point, grid)
        if row := saved.get(point.name):
            trial.start_up_seconds, trial.reason, trial.device = row["start_up_seconds"], row["reason"], row["device"]
            trial.parent, trial.inherited = row.get("parent", ""), row.get("inherited_epochs", 0)
            if row["state"] in OVER:
                trial.state = row["state"]
        trials.append(trial)
    return trials


def open_trial(point: Point, grid: RunFolder[Any]) -> Trial:
    """Opens the folder of one trial, see `open_trials`."""
    run = replace(point.settings.run, name=point.name, storage=grid.path("trials"), resume=True)
    folder = RunFolder(replace(point.settings, run=run))
    trial = Trial(point.name, point.values, folder)
    if folder.open() and storage.exists(folder.path("metrics.jsonl")):
        trial.history = storage.read_lines(folder.path("metrics.jsonl"))
    return trial


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Sorts trials, best first; failed ones come last, since they could not keep what they had reached."""
    return sorted(trials, key=lambda trial: (trial.state == "failed", trial.value))


def rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Returns a row for each trial, in the order of rank, for grid.json."""
    return [
        {
            "rank": rank if trial.history else None,
            "trial": trial.name,
            "settings": trial.values,
            "state": trial.state,
            "reason": trial.reason,
            "epochs": trial.epochs,
            "best_epoch": trial.best["epoch"] if trial.best else None,
            "train_loss": trial.best["train_loss"] if trial.best else None,
            "val": trial.best["val"] if trial.best else None,
            "start_up_seconds": round(trial.start_up_seconds, 1),
            "training_seconds": round(trial.training_seconds, 1),
            "device": trial.device,
            **({"parent": trial.parent, "inherited_epochs": trial.inherited} if trial.parent else {}),
        }
        for rank, trial in enumerate(ranked(trials), 1)
    ]


def table(trials: Sequence[Trial]) -> bytes:
    """Returns the same rows as CSV, with a column for each setting and each metric; not every trial has all metrics."""
    flat = []
    for row in rows(trials):
        settings, val = row.pop("settings"), row.pop("val") or dict.fromkeys(NAMES)
        flat.append({"rank": row.pop("rank"), "trial": row.pop("trial"), **settings, **row, **val})
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(itertools.chain(*flat))))
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().encode()
