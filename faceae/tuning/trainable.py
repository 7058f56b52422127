"""The Trainable that Ray Tune runs for each trial: it submits the run by its name and reports its epochs.

Its process imports no torch and never sees a trial's settings; one process serves one trial after another.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import tune


class TrainRun(tune.Trainable):
    """A trial of Ray Tune. A worker group does the work and holds its resources; the trial waits."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begins a trial.

        Args:
            config: `run`, the name of the run, and `coordinator`, the name of the actor that knows the run (see
                `faceae.cluster.coordinator`).
        """
        self.coordinator = ray.get_actor(config["coordinator"])
        self._begin(config["run"])

    def _begin(self, run: str) -> None:
        self.run, self.seen, self.over = run, 0, False
        ray.get(self.coordinator.submit.remote(run))

    def step(self) -> dict[str, Any]:
        """Waits for the next epoch or the end of the run. Epochs of an earlier session are reported as if new.

        Returns:
            the scheduler's metric and time (`faceae.cluster.protocol.METRIC` and `TIME`); `over`, whether the trial
            needs no more epochs; and `done`, which says the same to Tune, but which Tune also sets for the trials that
            it stops. To Tune, a run that had to give up has not failed, since a failure would cost the process; the
            driver knows the reason.
        """
        result: dict[str, Any] = ray.get(self.coordinator.next_epoch.remote(self.run, self.seen))
        self.seen, self.over = self.seen + 1, result["over"]
        return result

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Ends this trial and begins another in the same process."""
        self.cleanup()
        self._begin(new_config["run"])
        return True

    def cleanup(self) -> None:
        """Ends the trial: its workers leave it after the current step and are free for another.

        Not if it was over, for another process may go on with the run meanwhile (see `faceae.tuning.population`).
        """
        if not self.over:
            ray.get(self.coordinator.stop.remote(self.run))
