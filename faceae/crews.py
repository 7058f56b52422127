"""Groups of Ray Train workers, started once: each trains one run after the other, those of a grid too.

Five processes of Ray's and ours have to import ray and torch before a group can train: on two cores a trial of a grid
took 25 s to start when each had its own, two at a time. The next run of a group begins at once.

A group that loses a worker, hears that its node will be taken away, or could be larger, is replaced by another, which
goes on from the last checkpoint. Ray Train could replace it, too (max_failures, num_workers=(2, 8)), but would take the
workers of a growing run away in mid-epoch, and would not leave a CPU to Ray Data.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from faceae import board
from faceae.board import State, Task
from faceae.checkpoint import Record
from faceae.config import Scale, Settings
from faceae.console import clock
from faceae.dataset import Images
from faceae.errors import RunFailedError
from faceae.placement import Placement, arrange, wait_for
from faceae.run import RunFolder
from faceae.worker import Job, train_worker

WORKER_RETRIES = 3
"""Times in a row that a crew loses a worker without having written a checkpoint; then its run fails."""

GROWTH_LOOK_S = 10
"""Seconds between two looks at whether there is room for more workers; two in a row must say so."""

STOP_S = 20
"""Seconds that the workers are given, after Ctrl-C, to leave the step they are at and to write a checkpoint."""

ROOM_S = 20
"""Seconds that a group waits for its resources, before the cluster is looked at again: it may count on a node that has
just died, for up to half a minute."""

CONTROLLER_POLL_S = "0.2"
"""How often Ray Train looks at its workers, in seconds: it sees the end of a run, or a dead worker, so much later.
Ray's own is 2 s."""


class Crews:
    """The crews of a run (one) or of a grid (as many as trials run at a time)."""

    def __init__(self, placement: Placement, scale: Scale) -> None:
        """Starts them, with a board where they find what to train, and returns at once.

        Args:
            placement: of each crew's workers, and how many crews there are.
            scale: the settings that it was made of.
        """
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", CONTROLLER_POLL_S)
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(ROOM_S))
        self.board, self.board_name = board.hang_up()
        self.placement, self.scale = placement, scale
        self.dismissed = False
        self.looked, self.grown = time.monotonic(), False
        self.wish: PlacementGroup | None = None
        self.working: dict[str, Future[None]] = {}
        for _ in range(placement.concurrent):
            self._launch()

    def __enter__(self) -> Crews:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dismiss()
        self._unwish()
        if error is None:
            for working in self.working.values():
                working.exception()  # waits: then its resources are free
            ray.kill(self.board)  # and with it what it knows of the images

    def task(self, folder: RunFolder[Settings], images: Images, history: Sequence[Record] = ()) -> Task:
        """What they have to know of a run, which may have a history of an earlier session."""
        settings = folder.settings
        job = Job(
            settings=settings,
            order=images.order(settings, self.placement.most_workers),
            val=images.val,
            run_uri=folder.uri,
        )
        return Task(folder.uri, [ray.put(job)], settings.train.epochs, settings.train.best_by, list(history))

    def dismiss(self) -> None:
        """Lets every crew go that finds no more runs, and so frees its resources."""
        if not self.dismissed:
            ray.get(self.board.dismiss.remote())
        self.dismissed = True

    def halt(self, runs: Sequence[str]) -> None:
        """Asks for a checkpoint and the end of some runs; returns when they have, or time is up."""
        ray.get([self.board.stop.remote(run) for run in runs])
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            states: list[State] = ray.get([self.board.read.remote(run) for run in runs])
            if all(state.ended or not state.device for state in states):
                return
            time.sleep(0.1)

    def mend(self) -> None:
        """Replaces the crews that gave up; the board has the reason, as the failure of the run they were at. Makes a
        run larger for which there is room.

        Raises:
            RunFailedError: a crew gave up before it had a run: another would, too.
        """
        for crew in [crew for crew, working in self.working.items() if working.done() and working.exception()]:
            failure = str(self.working.pop(crew).exception())
            if ray.get(self.board.end.remote(crew, failure)) is None:
                raise RunFailedError(failure)
            if not self.dismissed:
                self._launch()
        if self.placement.workers < self.placement.most_workers and time.monotonic() - self.looked > GROWTH_LOOK_S:
            self._look_for_room()

    def _look_for_room(self) -> None:
        """Asks for the workers that a run could still have, and has it move when there are some."""
        self.looked, grown = time.monotonic(), arrange(self.scale).workers > self.placement.workers
        if grown and self.grown:
            ray.get([self.board.move.remote(crew) for crew in self.working])
        self.grown = grown
        if self.placement.gpu and not self.wish:
            # Tells an autoscaler what to start. Not on CPUs: those that were free it would take from Ray Data.
            missing = self.placement.most_workers - self.placement.workers
            self.wish = placement_group([self.placement.bundle] * missing, strategy="PACK")

    def _unwish(self) -> None:
        if self.wish:
            remove_placement_group(self.wish)
            self.wish = None

    def _launch(self) -> None:
        crew = uuid.uuid4().hex
        self.working[crew] = in_thread(lambda: self._work(crew))

    def _work(self, crew: str) -> None:
        """Has one group of workers after the other do the work of a crew.

        Raises:
            RunFailedError: workers were lost again and again.
            InputError: the machines that are needed did not come back.
        """
        saved, lost, waited = 0, 0, 0
        while True:
            try:
                if self._train(crew):
                    return
            except ray.train.TrainingFailedError as error:
                if isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError):
                    waited += ROOM_S
                    if waited > 60 * self.scale.wait_minutes:
                        raise RunFailedError(f"no room for {self.placement} in {clock(waited)}") from error
                else:
                    written = ray.get(self.board.lose.remote(crew))
                    saved, lost, waited = written, lost + 1 if written == saved else 1, 0
                    if lost > WORKER_RETRIES:
                        raise RunFailedError(f"workers were lost {lost} times in a row: {_cause(error)}") from error
            self.placement = wait_for(self.placement, self.scale, crews=1)

    def _train(self, crew: str) -> bool:
        """Starts a group of workers and waits for its end; returns whether it found all work done."""
        placement = self.placement
        self._unwish()
        with tempfile.TemporaryDirectory() as scratch:  # what a run keeps, the workers write themselves
            trainer = TorchTrainer(
                train_worker,
                train_loop_config={
                    "board": self.board,
                    "crew": crew,
                    "mask_tasks": placement.mask_tasks(),
                    "neighbours": placement.neighbours(),
                },
                scaling_config=ray.train.ScalingConfig(
                    num_workers=placement.workers,
                    use_gpu=placement.gpu > 0,
                    resources_per_worker=placement.bundle,
                    # GPUs exchange their gradients fastest within a node; CPU workers want its cores for themselves.
                    placement_strategy="PACK" if placement.gpu else "SPREAD",
                ),
                run_config=ray.train.RunConfig(
                    name="crew",
                    storage_path=scratch,
                    failure_config=ray.train.FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
                ),
            )
            return bool(trainer.fit().return_value)


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Runs Ray Train or Tune beside the main thread, where Ctrl-C is heard."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # handed on to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="ray").start()
    return future


def _cause(error: BaseException) -> str:
    """The innermost error of a failed run, in one line."""
    if failures := getattr(error, "worker_failures", None):
        error = failures[min(failures)]
    error = getattr(error, "controller_failure", error)
    error = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
