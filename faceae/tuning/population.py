"""Population-based training (Jaderberg et al., 2017, arxiv.org/abs/1711.09846): the worst trials go on as copies of the
best ones, with other settings.

A copy is a trial of its own, whose folder begins with the checkpoint, the model and the metrics of another. So every
trial keeps its settings, and a grid that is continued needs nothing but its trials. All trials are trained up to the
same epoch, as many at a time as there is room for; then the worst are replaced, and all go on to the next such epoch.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from faceae import storage
from faceae.config import points, space
from faceae.config.grid import GridSettings
from faceae.config.points import Point
from faceae.config.space import Interval
from faceae.training import checkpoint
from faceae.tuning.trials import Trial

REPLACED = 4
"""One in so many trials is replaced at a time, at least one."""

FACTORS = 0.8, 1.25
"""A number is multiplied by one of these; of a list of values it becomes a neighbour."""

IDLE = ("pending", "paused")
"""States of a trial that may be run."""

_ANOTHER = 0.25  # the probability that a word becomes another of the list


class Population:
    """The trials of a population, each to be run up to the next epoch at which they are compared.

    Attributes:
        until: that epoch.
    """

    def __init__(self, settings: GridSettings, trials: list[Trial], open_trial: Callable[[Point], Trial]) -> None:
        """Looks at how far the trials are.

        Args:
            settings: the grid's settings.
            trials: all trials so far; copies are added.
            open_trial: opens the folder of a new trial.
        """
        self.settings, self.trials, self.open_trial = settings, trials, open_trial
        self.every = settings.asha.grace_epochs
        self.space = points.searched(settings)
        reached = min((trial.epochs for trial in self._members), default=0) // self.every * self.every
        copied = {trial.inherited // self.every * self.every for trial in trials if trial.parent}
        self.until = reached if reached and reached not in copied else reached + self.every

    unknown = 0
    """Number of trials to come: a copy only trains what is left of the trial that it replaces."""

    @property
    def begun(self) -> bool:
        """Whether the trials are on the last way to their end, after which none is replaced."""
        return self.until >= self.settings.train.epochs

    @property
    def _members(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.over]

    def done(self) -> bool:
        """Whether no trial is to be run any more."""
        return not self._members

    def next(self) -> Trial | None:
        """Returns a trial to run up to its epoch `until`; None if all that are to be run now are running."""
        if self._members and all(trial.epochs >= self.until and trial.state in IDLE for trial in self._members):
            self._replace()
            self.until += self.every
        for trial in self._members:
            until = min(self.until, self.settings.train.epochs)
            if trial.state in IDLE and trial.epochs < until and trial.until < until:
                trial.until = until
                return trial
        return None

    def _replace(self) -> None:
        """Replaces the worst trials at this epoch by copies of the best."""
        order = sorted(self._members, key=lambda trial: trial.history[self.until - 1]["val"][trial.metric])
        if len(order) < 2:
            return
        number, chance = max(1, len(order) // REPLACED), random.Random(f"{self.settings.tune.seed}/{self.until}")
        for worst in order[-number:]:
            worst.state = "pruned"
            self.trials.append(self._copy(chance.choice(order[:number]), chance))

    def _copy(self, parent: Trial, chance: random.Random) -> Trial:
        values = {path: self._varied(path, value, chance) for path, value in parent.values.items()}
        trial = self.open_trial(points.proposed(self.settings, len(self.trials) + 1, values))
        checkpoint.copy(parent.folder.uri, trial.folder.uri)
        for name in storage.list_files(parent.folder.path("model")):
            storage.write(trial.folder.path("model", name), storage.read(parent.folder.path("model", name)))
        storage.write_lines(trial.folder.path("metrics.jsonl"), parent.history)
        trial.history, trial.parent, trial.inherited = list(parent.history), parent.name, parent.epochs
        return trial

    def _varied(self, path: str, value: Any, chance: random.Random) -> Any:  # noqa: ANN401
        among = self.space[path]
        if isinstance(among, Interval):
            return among.rounded(value * chance.choice(FACTORS))
        if not space.are_numbers(among):
            return chance.choice(among) if chance.random() < _ANOTHER else value
        order = sorted(among)
        return order[min(max(order.index(value) + chance.choice((-1, 1)), 0), len(order) - 1)]
