"""The next trial of a search that learns from the trials so far, proposed by Optuna."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from faceae.config import points
from faceae.config.grid import GridSettings
from faceae.config.points import Point
from faceae.config.space import Interval
from faceae.errors import InputError
from faceae.tuning.trials import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


def check_installed() -> None:
    """Raises InputError if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("--tune.search optuna: needs Optuna; pip install 'faceae[optuna]'")


class Proposals:
    """Proposes trials by TPE (Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011).

    It keeps no state: each proposal follows from the trials so far and the seed. So a grid that is continued needs
    nothing but its trials.
    """

    def __init__(self, settings: GridSettings) -> None:
        """Looks at the space to search."""
        self.settings, self.space = settings, points.searched(settings)

    def next(self, trials: Sequence[Trial]) -> Point:
        """Returns a trial to run next: first the settings as they are, if they are in the space.

        Args:
            trials: all trials so far. Those that run count as bad as the worst, so that the next differs from them.

        Raises:
            InputError: no valid settings were found.
        """
        import optuna

        if not trials and (own := self._own()):
            return points.proposed(self.settings, 1, own)
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # else it announces every study
        number = len(trials) + 1
        sampler = optuna.samplers.TPESampler(
            seed=self.settings.tune.seed + number,
            n_startup_trials=min(10, math.ceil(self.settings.tune.samples / 3)),
            constant_liar=True,
        )
        study = optuna.create_study(sampler=sampler)
        study.add_trials([self._known(trial) for trial in trials])
        asked = study.ask(self._distributions())
        return points.proposed(self.settings, number, self._rounded(asked.params))

    def _own(self) -> dict[str, Any]:
        """Returns the values that the settings have themselves; nothing if one of them is not in the space."""
        own = {path: points.value(self.settings, path) for path in self.space}
        return own if all(own[path] in among for path, among in self.space.items()) else {}

    def _known(self, trial: Trial) -> FrozenTrial:
        """Returns a trial as Optuna knows it: one that was stopped early has its value at its last epoch."""
        from optuna.trial import TrialState, create_trial

        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        state = states.get(trial.state, TrialState.RUNNING)
        reached = {record["epoch"]: record["val"][trial.metric] for record in trial.history}
        return create_trial(
            state=state,
            value=trial.value if state is TrialState.COMPLETE else None,
            params={path: self._index(path, value) for path, value in trial.values.items()},
            distributions=self._distributions(),
            intermediate_values=reached,
        )

    def _distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for path, among in self.space.items():
            if not isinstance(among, Interval):
                found[path] = CategoricalDistribution(range(len(among)))
            elif among.whole:
                found[path] = IntDistribution(int(among.low), int(among.high), log=among.log)
            else:
                found[path] = FloatDistribution(among.low, among.high, log=among.log)
        return found

    def _index(self, path: str, value: Any) -> Any:  # noqa: ANN401
        """Returns a value of a list as its number, since Optuna takes few types as categories."""
        among = self.space[path]
        return value if isinstance(among, Interval) else among.index(value)

    def _rounded(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            path: among.rounded(params[path]) if isinstance(among, Interval) else among[params[path]]
            for path, among in self.space.items()
        }
