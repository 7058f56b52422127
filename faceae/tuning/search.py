# ruff: noqa: ANN401  (Tune's trials have no type to name)
"""Ray Tune at work: it starts the trials, asks ASHA after each epoch, and the driver follows."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from faceae.cluster.coordinator import State
from faceae.cluster.fit import POLL_S
from faceae.cluster.worker_groups import Crews, in_thread
from faceae.config.grid import GridSettings
from faceae.console import out
from faceae.data.dataset import Images
from faceae.errors import InputError
from faceae.tracking import Tracker
from faceae.tuning.trainable import METRIC, TIME, TrainRun
from faceae.tuning.trials import Trial
from faceae.tuning.view import GridView

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
        self.tasks = {trial.name: crews.task(trial.folder, images, trial.history) for trial in trials if not trial.over}
        self.verdicts: SimpleQueue[Verdict] = SimpleQueue()
        self.passed: dict[str, Verdict] = {}
        self.trackers: dict[str, Tracker] = {}
        self.seen: Counter[str] = Counter()  # records
        self.notes: Counter[str] = Counter()
        self.ready: set[str] = set()
        self.places: list[float] = []  # since when each place for a trial is free

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
                while not tuning.done() or not all(trial.over for trial in self.trials):
                    if tuning.done():
                        tuning.result()  # raises, should Tune have failed
                    self._follow(view)
                    time.sleep(POLL_S)
            except KeyboardInterrupt:
                self._stop(view)
                raise
            finally:
                for tracker in self.trackers.values():
                    tracker.end(interrupted=True)

    def _stop(self, view: GridView) -> None:
        """Ends what runs, with a checkpoint, and takes the epochs that were finished by then."""
        running = [trial for trial in self.trials if trial.state == "running"]
        self.crews.halt([trial.folder.uri for trial in self.trials])
        for trial in running:
            self._update(trial, ray.get(self.board.read.remote(trial.folder.uri, self.seen[trial.name])), view)
            if not trial.over:
                trial.state = "stopped"

    def _tuner(self, scratch: str) -> tune.Tuner:
        # Not by tune.with_parameters, which never lets go of what it was given: here, the images.
        ray.get(self.board.plan.remote(self.tasks))
        return tune.Tuner(
            tune.with_resources(TrainRun, tune.PlacementGroupFactory([{HEAD: 0.001}])),
            param_space={"board": self.crews.board_name, "trial": tune.grid_search(list(self.tasks))},
            tune_config=tune.TuneConfig(
                scheduler=self._scheduler(),
                max_concurrent_trials=self.placement.concurrent,
                reuse_actors=True,
            ),
            # Tune's own state is not kept: the trials' folders are, and a grid is continued from them.
            run_config=tune.RunConfig(
                storage_path=scratch,
                name="tune",
                callbacks=[Messenger(self.verdicts)],
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
        """Takes what the board tells of the running trials, and what Tune has decided."""
        self.crews.mend()
        with contextlib.suppress(Empty):
            while True:
                verdict = self.verdicts.get_nowait()
                self.passed[verdict.trial] = verdict
                # Tune has asked for this, too; should the trial's process have died, its crew would work on.
                ray.get(self.board.stop.remote(self.by_name[verdict.trial].folder.uri))
        left = [trial for trial in self.trials if not trial.over]
        states = ray.get([self.board.read.remote(trial.folder.uri, self.seen[trial.name]) for trial in left])
        changed = [self._update(trial, state, view) for trial, state in zip(left, states, strict=True)]
        if any(changed):
            self.keep()
        if not any(trial.state in ("pending", "stopped") for trial in self.trials):
            self.crews.dismiss()  # a crew with nothing left to do frees its resources

    def _update(self, trial: Trial, state: State, view: GridView) -> bool:
        """Writes into a trial what stands on its board; returns whether that is worth keeping."""
        if state.device and trial.name not in self.ready:
            self.ready.add(trial.name)
            if self.places:
                trial.start_up_seconds += time.monotonic() - self.places.pop(0)
            trial.state, trial.device = "running", state.device
            self.trackers[trial.name] = self._track(trial)
            del trial.history[state.begun[0] :]  # an epoch without its checkpoint is trained again
        view.set_step(trial, state.step)
        for note in state.notes[self.notes[trial.name] :]:
            self.notes[trial.name] += 1
            view.note(trial, note)
        self.seen[trial.name] += len(state.records)
        for record in state.records:
            trial.history.append(record)
            self.trackers[trial.name].epoch(trial.history)
            view.epoch(trial)
        verdict = self.passed.get(trial.name)
        if not (state.ended and verdict):
            return bool(state.records)
        trial.reason = state.failure or verdict.failure
        complete = verdict.over or trial.epochs == trial.folder.settings.train.epochs
        trial.state = "failed" if trial.reason else "finished" if complete else "pruned"
        self.places.append(time.monotonic())
        view.end(trial)
        if tracker := self.trackers.pop(trial.name, None):
            if trial.best and not trial.reason:
                tracker.summary = {"best_epoch": trial.best["epoch"], "val": trial.best["val"]}
            tracker.end()
        return True

    def _track(self, trial: Trial) -> Tracker:
        """Begins to tell of a trial. That the very first cannot be told of is an error; later ones run untold."""
        kinds = self.settings.run.track
        try:
            return Tracker(trial.folder, kinds, group=self.settings.run.name)
        except InputError as error:
            if len(self.ready) == 1:
                raise
            out.print(f"note      {error}")
            return Tracker(trial.folder, ())


class Verdict(NamedTuple):
    """What Tune says of a trial at its end: whether it needed no more epochs (ASHA stopped it otherwise), or failed."""

    trial: str
    over: bool
    failure: str = ""


class Known(NamedTuple):
    """A trial of an earlier session, for ASHA."""

    trial_id: str


class Messenger(tune.Callback):
    """Hands Tune's verdicts from its thread to the main one."""

    def __init__(self, verdicts: SimpleQueue[Verdict]) -> None:
        self.verdicts = verdicts

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks, for a restore that faceae does not use

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: D102
        self.verdicts.put(Verdict(trial.config["trial"], trial.last_result["over"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: D102
        reason = str(trial.get_error()).strip().rpartition("\n")[2]
        self.verdicts.put(Verdict(trial.config["trial"], False, f"the trial's process failed: {reason}"))
