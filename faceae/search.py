# ruff: noqa: ANN401  (Tune's trials have no type to name)
"""Ray Tune at work: it starts the trials, asks ASHA after each epoch, and the driver follows."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from faceae.board import Assignment
from faceae.crews import Crews, in_thread
from faceae.dataset import Images
from faceae.fit import POLL_S
from faceae.grid import GridSettings
from faceae.grid_view import GridView
from faceae.trainable import METRIC, TIME, Task, TrainRun
from faceae.trials import Trial
from faceae.worker import Job

HEAD = "node:__internal_head__"
"""The resource that Ray gives the head node. A trial's process waits and costs next to nothing: it takes a place there
and leaves the CPUs to the workers and Ray Data. (Tune refuses a trial without any resource.)"""


class Search:
    """Runs the trials of a grid that are not over."""

    def __init__(
        self,
        settings: GridSettings,
        trials: Sequence[Trial],
        images: Images,
        crews: Crews,
        keep: Callable[[], object],
    ) -> None:
        """Prepares the search.

        Args:
            settings: of the grid.
            trials: all of them; what becomes of them is written into them.
            images: that all trials share.
            crews: that train them.
            keep: called when something has changed that should be kept.
        """
        self.settings, self.trials, self.images, self.crews, self.keep = settings, trials, images, crews, keep
        self.board, self.placement = crews.board, crews.placement
        self.by_name = {trial.name: trial for trial in trials}
        self.tasks = {trial.name: self._task(trial) for trial in trials if not trial.over}
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.ready: set[str] = set()
        self.places: list[float] = []  # since when each place for a trial is free

    def _task(self, trial: Trial) -> Task:
        settings = trial.folder.settings
        job = Job.of(trial.folder, self.images, self.placement)
        return Task(Assignment(job.run_uri, [ray.put(job)]), settings.train.epochs, trial.metric, list(trial.history))

    def run(self) -> None:
        """Runs them to the end.

        Raises:
            KeyboardInterrupt: Ctrl-C; the trials are told to stop.
        """
        if not self.tasks:
            return
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the trials' own metrics.jsonl says it all
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the newer one prints failed trials at any verbosity
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed trial is told below, without its traceback
        self.places = [time.monotonic()] * self.placement.concurrent
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            GridView(self.trials, len(self.images.train)) as view,
        ):
            tuning = in_thread(self._tuner(scratch).fit)
            try:
                while True:
                    over = tuning.done()  # asked before the last look at the events, lest one be missed
                    self._follow(view)
                    if over:
                        break
                    time.sleep(POLL_S)
            except KeyboardInterrupt:
                for trial in self.trials:
                    trial.state = "stopped" if trial.state == "running" else trial.state
                    self.board.stop.remote(trial.folder.uri)
                raise
            tuning.result()

    def _tuner(self, scratch: str) -> tune.Tuner:
        trainable = tune.with_resources(
            tune.with_parameters(TrainRun, board=self.board, tasks=self.tasks),
            tune.PlacementGroupFactory([{HEAD: 0.001}]),
        )
        return tune.Tuner(
            trainable,
            param_space={"trial": tune.grid_search(list(self.tasks))},
            tune_config=tune.TuneConfig(
                scheduler=self._scheduler(),
                max_concurrent_trials=self.placement.concurrent,
                reuse_actors=True,
            ),
            # Tune's own state is not kept: the trials' folders are, and a grid is continued from them.
            run_config=tune.RunConfig(
                storage_path=scratch,
                name="tune",
                callbacks=[Messenger(self.events)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )

    def _scheduler(self) -> ASHAScheduler:
        """ASHA, told what the trials that are over reached in an earlier session."""
        asha = self.settings.asha
        epochs = max(trial.folder.settings.train.epochs for trial in self.trials)
        scheduler = ASHAScheduler(
            time_attr=TIME,
            metric=METRIC,
            mode="min",
            max_t=epochs,
            grace_period=min(asha.grace_epochs, epochs),
            reduction_factor=asha.reduction_factor,
        )
        for trial in self.trials:
            if trial.over:
                known = Known(trial.name)
                scheduler.on_trial_add(None, known)
                for record in trial.history:
                    result = {TIME: record["epoch"], METRIC: record["val"][trial.metric]}
                    scheduler.on_trial_result(None, known, result)
        return scheduler

    def _follow(self, view: GridView) -> None:
        """Takes what Tune and the board have to tell."""
        self.crews.mend()
        changed = False
        with contextlib.suppress(Empty):
            while True:
                self._take(self.events.get_nowait(), view)
                changed = True
        running = [trial for trial in self.trials if trial.state == "running"]
        states = ray.get([self.board.read.remote(trial.folder.uri) for trial in running])
        for trial, state in zip(running, states, strict=True):
            if state.device and trial.name not in self.ready:
                self._mark_ready(trial)
                trial.device = state.device
            view.set_step(trial, state.step)
        if not any(trial.state == "pending" for trial in self.trials):
            self.crews.dismiss()  # a crew with nothing left to do frees its resources
        if changed:
            self.keep()

    def _take(self, event: Event, view: GridView) -> None:
        trial = self.by_name[event.trial]
        record = event.result.get("record")
        if event.kind == "start":
            trial.state = "running"
        elif event.kind == "result" and record and record["epoch"] > trial.epochs:  # not of an earlier session
            trial.history.append(record)
            view.epoch(trial)
        elif event.kind in ("complete", "error"):
            if trial.name not in self.ready:
                self._mark_ready(trial)
            self.places.append(time.monotonic())
            trial.reason = event.result.get("failure") or event.reason
            over = event.result.get("over", True)
            self.board.stop.remote(trial.folder.uri)  # should the trial's process have died, its crew still works
            trial.state = "failed" if trial.reason else "finished" if over else "pruned"
            view.end(trial)

    def _mark_ready(self, trial: Trial) -> None:
        self.ready.add(trial.name)
        trial.start_up_seconds += time.monotonic() - self.places.pop(0)


class Event(NamedTuple):
    """What Tune says of a trial: "start", "result", "complete" or "error"."""

    kind: str
    trial: str
    result: dict[str, Any]
    reason: str = ""


class Known(NamedTuple):
    """A trial of an earlier session, for ASHA."""

    trial_id: str


class Messenger(tune.Callback):
    """Hands Tune's events from its thread to the main one."""

    def __init__(self, events: SimpleQueue[Event]) -> None:
        self.events = events

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks, for a restore that faceae does not use

    def _put(self, kind: str, trial: Any, result: dict[str, Any] | None = None, reason: str = "") -> None:
        self.events.put(Event(kind, trial.config["trial"], dict(result or {}), reason))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: D102
        self._put("start", trial)

    def on_trial_result(  # noqa: D102
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._put("result", trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: D102
        self._put("complete", trial, trial.last_result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: D102
        self._put("error", trial, reason=str(trial.get_error()).strip().rpartition("\n")[2])
