# ruff: noqa: ANN401  (Tune's trials have no public type)
"""Runs the trials of a grid with Ray Tune, whose scheduler decides after each epoch; the driver follows the changes."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import ray
from ray import tune

from faceae import ray_compat
from faceae.claim import Claim
from faceae.cluster.protocol import RunSpec, RunStatus, Verdict
from faceae.cluster.worker_groups import WorkerGroups, in_thread
from faceae.config.grid import GridSettings
from faceae.console import out
from faceae.data.dataset import FaceDataset
from faceae.errors import InputError, one_line
from faceae.tracking import Tracker
from faceae.tuning.order import Order
from faceae.tuning.schedulers import NextRun, scheduler
from faceae.tuning.trainable import TrainRun
from faceae.tuning.trials import Trial
from faceae.tuning.view import GridView


class Search:
    """Runs the unfinished trials of a grid, and those that are proposed meanwhile."""

    def __init__(
        self,
        settings: GridSettings,
        trials: list[Trial],
        order: Order,
        dataset: FaceDataset,
        groups: WorkerGroups,
        claim: Claim,
        keep: Callable[[], object],
    ) -> None:
        """Shares the images.

        Args:
            settings: the grid's settings.
            trials: all trials so far, which are updated as they run; those that `order` proposes are added.
            order: which trial is to be run next.
            dataset: the images that the trials share.
            groups: the worker groups that train the trials.
            claim: the claim on the grid's folder.
            keep: called after a change that should be saved.
        """
        self.settings, self.trials, self.groups, self.keep, self.claim = settings, trials, groups, keep, claim
        self.order = order
        self.open: dict[str, Trial] = {}
        self.view = GridView(
            trials, len(dataset.train), settings.train, groups.placement.concurrent, lambda: order.unknown
        )
        self.trackers: dict[str, Tracker] = {}
        self.ended: list[Tracker] = []  # those of trials that are over; their services may still be busy
        self.tracked = False  # whether tracking has worked for any trial
        self.seen: Counter[str] = Counter()  # number of records received, by run
        self.notes: Counter[str] = Counter()  # number of notes shown, by trial
        self.free_since = [time.monotonic()] * groups.placement.concurrent  # one time for each free slot
        self.shared = groups.share(dataset)
        self.decided: set[str] = set()  # runs of which Tune has a verdict, until the driver has heard of it, too
        self.stopped = False  # by Ctrl-C
        self.lock = threading.Lock()  # Tune's thread begins trials, and the driver's updates them

    def _next(self) -> str | None:
        """Returns the run that Tune is to start next, None if there is none now; called in Tune's thread."""
        with self.lock:
            if self.stopped:
                return None
            settled = all(self.open[run].state not in ("pending", "running") for run in self.decided)
            self.decided = set() if settled else self.decided
            # What is proposed next depends on how the trials ended: not on whether the driver has heard of it already.
            trial = self.order.next() if settled or self.order.begun else None
            if trial is None:
                return None
            uri, workers = trial.folder.uri, self.groups.placement.max_workers
            self.open[uri], trial.state, self.seen[uri], self.notes[trial.name] = trial, "pending", 0, 0
            self.groups.register(
                RunSpec(uri, trial.folder.settings, self.shared, workers, self.claim, trial.until or None)
            )
            self.keep()
            return uri

    def _done(self) -> bool:
        """Whether no more runs are to be started."""
        return self.stopped or self.order.done()

    def _decided(self, run: str) -> None:
        self.decided.add(run)

    def run(self) -> None:
        """Runs the trials until all are over.

        Raises:
            RunFailedError: no worker group could be started.
            KeyboardInterrupt: Ctrl-C; the trials have been asked to stop.
        """
        if self.order.done():
            return
        ray_compat.set_defaults(ray_compat.TUNE_ENVIRONMENT)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the view shows a failed trial without its traceback
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, self.view:
            tuning = in_thread(self._tuner(scratch).fit)
            tuning.add_done_callback(lambda _: self.groups.coordinator.wake.remote())
            try:
                version = 0
                while not tuning.done() or not all(trial.over for trial in self.trials):
                    if tuning.done():
                        tuning.result()  # raises if Tune has failed
                    version = self._follow(version)
            except KeyboardInterrupt:
                self._stop()
                raise
            finally:
                for tracker in self.trackers.values():
                    tracker.end(interrupted=True, wait=False)
                for tracker in [*self.ended, *self.trackers.values()]:
                    tracker.wait()

    def _stop(self) -> None:
        """Stops the running trials, each with a checkpoint, and records the epochs that they have finished by then."""
        with self.lock:  # Tune's thread starts no trial any more, and saves nothing over the result
            self.stopped = True
        running = [trial for trial in self.trials if trial.state == "running"]
        self.groups.stop()
        self._follow(0)
        for trial in running:
            if not trial.over:
                trial.state = "stopped"

    def _tuner(self, scratch: str) -> tune.Tuner:
        return tune.Tuner(
            # A trial's process only waits and costs next to nothing: it runs on the head node and leaves the CPUs to
            # the workers and Ray Data. (Tune refuses a trial without any resource.)
            tune.with_resources(TrainRun, tune.PlacementGroupFactory([{ray_compat.HEAD_RESOURCE: 0.001}])),
            tune_config=tune.TuneConfig(
                scheduler=scheduler(self.settings, self.trials),
                search_alg=NextRun(self._next, self._done, self.groups.coordinator_name),
                num_samples=-1,  # as many as there are
                max_concurrent_trials=self.groups.placement.concurrent,
                reuse_actors=True,
                trial_name_creator=_name,
            ),
            # Tune's own state is discarded: a grid is continued from the trials' folders.
            run_config=tune.RunConfig(
                storage_path=scratch,
                name=self.settings.run.name,
                callbacks=[VerdictCallback(self.groups.coordinator, self._decided)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )

    def _follow(self, version: int) -> int:
        """Waits for changes and applies them to the trials; returns the version that is then known."""
        changes = self.groups.changes(version, self.seen)
        with self.lock:
            changed = [self._update(self.open[uri], status) for uri, status in changes.runs.items()]
            if any(changed):
                self.keep()
            waiting = any(trial.state in ("pending", "paused", "stopped") for trial in self.trials)
            if self.order.begun and not waiting:
                self.groups.close()  # a group with nothing left to do frees its resources
        return changes.version

    def _update(self, trial: Trial, status: RunStatus) -> bool:
        """Updates a trial from the coordinator's status of its run; returns whether the change should be saved."""
        if trial.over:
            return False
        if status.device and trial.state == "pending":
            self._begin(trial, status)
        self.view.set_step(trial, status.step)
        for note in status.notes[self.notes[trial.name] :]:
            self.notes[trial.name] += 1
            self.view.note(trial, note)
        self.seen[trial.folder.uri] += len(status.records)
        for record in status.records:
            trial.history.append(record)
            if record["epoch"] > status.begun[0]:
                self.trackers[trial.name].epoch(trial.history)
                self.view.epoch(trial)
        if not (status.ended and status.verdict):
            return bool(status.records)
        self._end(trial, status.failure or status.verdict.failure, status.verdict.complete)
        return True

    def _begin(self, trial: Trial, status: RunStatus) -> None:
        if self.free_since:
            trial.start_up_seconds += time.monotonic() - self.free_since.pop(0)
        trial.state, trial.device = "running", status.device
        self.trackers[trial.name] = self._track(trial)
        trial.history.clear()  # it is sent again, without any epoch that has no checkpoint

    def _end(self, trial: Trial, failure: str, complete: bool) -> None:
        last = trial.folder.settings.train.epochs
        complete = complete or trial.epochs == last
        trial.reason = failure
        trial.state = "failed" if failure else "finished" if complete else "pruned"
        if trial.state == "finished" and trial.epochs == trial.until < last:
            trial.state = "paused"
        self.free_since.append(time.monotonic())
        self.view.end(trial)
        if tracker := self.trackers.pop(trial.name, None):
            if trial.best and not failure:
                tracker.summary = {"best_epoch": trial.best["epoch"], "val": trial.best["val"]}
            tracker.end(wait=False)
            self.ended.append(tracker)

    def _track(self, trial: Trial) -> Tracker:
        """Starts tracking a trial. If the first cannot be tracked, that is an error; later ones then run untracked."""
        try:
            tracker = Tracker(trial.folder, self.settings.run.track, group=self.settings.run.name)
            self.tracked = True
            return tracker
        except InputError as error:
            if not self.tracked:
                raise
            out.print(f"note      {error}")
            return Tracker(trial.folder, ())


def _name(trial: Any) -> str:
    """Returns the name of a trial in Ray's logs and dashboard, by its configuration."""
    return str(trial.config["run"].rpartition("/")[2])


class VerdictCallback(tune.Callback):
    """Passes Tune's verdict on a trial to the coordinator."""

    def __init__(self, coordinator: Any, decided: Callable[[str], object]) -> None:
        """Passes verdicts to the coordinator, and the names of their runs to `decided`."""
        self.coordinator, self.decided = coordinator, decided

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks for a kind of restore that faceae does not use

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: D102
        self._decide(trial, Verdict(trial.last_result["over"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: D102
        self._decide(trial, Verdict(False, f"the trial's process failed: {one_line(trial.get_error())}"))

    def _decide(self, trial: Any, verdict: Verdict) -> None:
        self.decided(trial.config["run"])
        ray.get(self.coordinator.decide.remote(trial.config["run"], verdict))
