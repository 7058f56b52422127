"""What Ray Tune runs for each trial: it puts the run up for a crew, and reports its epochs."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray import tune

from faceae.cluster.coordinator import State, Task

METRIC, TIME = "value", "epoch"
"""What ASHA compares, and when."""

POLL_S = 0.2
"""Seconds between two looks at the board."""


class TrainRun(tune.Trainable):
    """A trial of Ray Tune. A crew does the work and holds its resources; the trial waits. Its process, which imports no
    torch, serves one trial after the other."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begins the trial of this name; `board` names the `faceae.cluster.coordinator`."""
        self.board = ray.get_actor(config["board"])
        self._begin(config["trial"])

    def _begin(self, trial: str) -> None:
        self.task: Task = ray.get(self.board.task.remote(trial))
        self.past = list(self.task.history)
        self.seen = 0
        self.last: dict[str, Any] | None = None
        ray.get(self.board.give.remote(self.task))

    def step(self) -> dict[str, Any]:
        """Waits for the next epoch, or the end. An epoch of an earlier session counts as if it had happened now.

        Returns:
            ASHA's metric and time; `record`, the epoch (None at an end between two epochs); `over`, whether the trial
            needs no more epochs (`done` says so to Tune, which sets it of the trials that it stops, too); `failure`,
            why it had to give up. Such a trial does not fail in Tune's eyes, which would cost the process.
        """
        record, failure = self._next()
        self.last = record or self.last
        over = record is None or record["epoch"] == self.task.epochs
        value = self.last["val"][self.task.metric] if self.last else float("inf")
        epoch = self.last["epoch"] if self.last else 0
        return {METRIC: value, TIME: epoch, "record": record, "failure": failure, "over": over, "done": over}

    def _next(self) -> tuple[dict[str, Any] | None, str | None]:
        while True:
            state: State = ray.get(self.board.read.remote(self.task.run, self.seen))
            if state.device and self.past and self.past[0]["epoch"] <= state.begun[0]:
                return self.past.pop(0), None
            if state.records:
                self.seen += 1
                return state.records[0], None
            if state.ended:
                return None, state.failure
            time.sleep(POLL_S)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Ends this trial and begins another."""
        self.cleanup()
        self._begin(new_config["trial"])
        return True

    def cleanup(self) -> None:
        """Ends the trial: its crew leaves it after the step it is at, and is free for another."""
        ray.get(self.board.stop.remote(self.task.run))
