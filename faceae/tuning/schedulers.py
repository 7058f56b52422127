# ruff: noqa: ANN401  (Tune's trials have no public type)
"""Ray Tune's schedulers, which stop trials early, and its search algorithm, which starts the next one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from faceae.cluster.protocol import METRIC, TIME
from faceae.config import points
from faceae.config.grid import GridSettings
from faceae.tuning.trials import Trial

_BRACKETS = 3
"""Brackets of --tune.scheduler hyperband."""


def scheduler(settings: GridSettings, trials: Sequence[Trial]) -> TrialScheduler:
    """Returns the scheduler of a grid, with the records of the trials that ended in an earlier session."""
    made = _build(settings)
    for trial in trials:
        if trial.over:
            known = _Known(trial.name)
            made.on_trial_add(None, known)
            for record in trial.history:
                made.on_trial_result(None, known, {TIME: record["epoch"], METRIC: record["val"][trial.metric]})
    return made


def _build(settings: GridSettings) -> TrialScheduler:
    kind, epochs = settings.tune.scheduler, max(point.settings.train.epochs for point in points.checked(settings))
    grace = min(settings.asha.grace_epochs, epochs)
    if kind in ("none", "pbt"):
        return FIFOScheduler()
    if kind == "median":
        # Without a pause for others while too few are known: a trial has no checkpoint of Tune's.
        return MedianStoppingRule(TIME, METRIC, "min", grace_period=grace, min_time_slice=math.inf)
    return ASHAScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode="min",
        max_t=epochs,
        grace_period=grace,
        reduction_factor=settings.asha.reduction_factor,
        brackets=_BRACKETS if kind == "hyperband" else 1,
    )


class _Known(NamedTuple):
    """A trial of an earlier session, as the schedulers need it."""

    trial_id: str


class NextRun(Searcher):
    """Gives Tune the runs of a grid, each when there is room for it."""

    def __init__(self, next_run: Callable[[], str | None], done: Callable[[], bool], coordinator: str) -> None:
        """Gives trials the name of a run and of the coordinator.

        Args:
            next_run: returns the run to start next, None if there is none now.
            done: says whether there will be no more.
            coordinator: the coordinator's name.
        """
        super().__init__(METRIC, "min")
        self._next, self._done, self._coordinator = next_run, done, coordinator

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its settings for a kind of restore that faceae does not use

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Says that there is nothing else to know."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next trial, as `faceae.tuning.trainable.TrainRun` takes it; None if it has to wait."""
        if run := self._next():
            return {"coordinator": self._coordinator, "run": run}
        return Searcher.FINISHED if self._done() else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Learns nothing: what is known of the trials is in their folders."""

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing, since Tune's own state is discarded."""

    def restore(self, checkpoint_path: str) -> None:
        """Is never called."""
