"""The order in which the trials of a grid or a search are run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from faceae.config.grid import GridSettings
from faceae.config.points import Point
from faceae.tuning.population import Population
from faceae.tuning.proposals import Proposals
from faceae.tuning.trials import Trial


class Order(Protocol):
    """Says which trial is to be run next."""

    @property
    def unknown(self) -> int:
        """Number of trials to come."""

    @property
    def begun(self) -> bool:
        """Whether no trial will be added, and none that runs will go on after a pause."""

    def done(self) -> bool:
        """Whether no trial is to be run any more."""

    def next(self) -> Trial | None:
        """Returns a trial to run; None if there is none now."""


def order(settings: GridSettings, trials: list[Trial], open_trial: Callable[[Point], Trial]) -> Order:
    """Returns the order of a grid's trials.

    Args:
        settings: the grid's settings.
        trials: all trials so far; those that are proposed are added.
        open_trial: opens the folder of a new trial.

    Raises:
        InputError: an extra is not installed.
    """
    if settings.tune.scheduler == "pbt":
        return Population(settings, trials, open_trial)
    return InTurn(settings, trials, open_trial)


class InTurn:
    """The trials that are known, one after the other, and then those that are proposed."""

    def __init__(self, settings: GridSettings, trials: list[Trial], open_trial: Callable[[Point], Trial]) -> None:
        """See `order`."""
        self.settings, self.trials, self.open_trial = settings, trials, open_trial
        self.proposals = Proposals(settings) if settings.tune.search == "optuna" else None
        self.waiting = deque(trial for trial in trials if not trial.over)

    @property
    def unknown(self) -> int:
        """See `Order`."""
        return self.settings.tune.samples - len(self.trials) if self.proposals else 0

    @property
    def begun(self) -> bool:
        """See `Order`."""
        return not self.unknown

    def done(self) -> bool:
        """See `Order`."""
        return not self.waiting and not self.unknown

    def next(self) -> Trial | None:
        """See `Order`."""
        if not self.waiting and self.proposals and self.unknown:
            self.trials.append(self.open_trial(self.proposals.next(self.trials)))
            return self.trials[-1]
        return self.waiting.popleft() if self.waiting else None
