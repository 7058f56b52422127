"""Groups of Ray Train workers, started once: each trains one run after the other, those of a grid too.

Five processes of Ray's and ours have to import ray and torch before a group can train: on two cores a trial of a grid
took 25 s to start when each had its own, two at a time. The next run of a group begins at once.

A group that loses a worker, hears that its node will be taken away, or could be larger, is replaced by another, which
goes on from the last checkpoint. Ray Train could replace it, too (max_failures, num_workers=(2, 8)), but would take the
workers of a growing run away in mid-epoch, and would not leave a CPU to Ray Data.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from faceae.cluster import controller as foreman
from faceae.cluster import coordinator as board
from faceae.cluster.controller import ROOM_S, End, Outcome
from faceae.cluster.coordinator import State, Task
from faceae.cluster.placement import Placement, arrange, wait_for
from faceae.config import Scale, Settings
from faceae.console import clock
from faceae.data.dataset import Images, Job
from faceae.errors import RunFailedError
from faceae.run_folder import RunFolder
from faceae.training.progress import Record

WORKER_RETRIES = 3
"""Times in a row that a crew loses a worker without having written a checkpoint; then its run fails."""

GROWTH_LOOK_S = 10
"""Seconds between two looks at whether there is room for more workers; two in a row must say so."""

STOP_S = 20
"""Seconds that the workers are given, after Ctrl-C, to leave the step they are at and to write a checkpoint."""


class Crews:
    """The crews of a run (one) or of a grid (as many as trials run at a time)."""

    def __init__(self, placement: Placement, scale: Scale) -> None:
        """Starts them, with a board where they find what to train, and returns at once.

        Args:
            placement: of each crew's workers, and how many crews there are.
            scale: the settings that it was made of.
        """
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
        leader = foreman.employ()
        while True:
            self._unwish()
            try:
                outcome: Outcome = ray.get(leader.lead.remote(self.placement, self._config(crew)))
            except ray.exceptions.RayActorError as error:
                outcome, leader = Outcome(End.LOST, str(error)), foreman.employ()
            if outcome.end is End.DONE:
                return
            if outcome.end is End.NO_ROOM:
                waited += ROOM_S
                if waited > 60 * self.scale.wait_minutes:
                    raise RunFailedError(f"no room for {self.placement} in {clock(waited)}")
            if outcome.end is End.LOST:
                written = ray.get(self.board.lose.remote(crew))
                saved, lost, waited = written, lost + 1 if written == saved else 1, 0
                if lost > WORKER_RETRIES:
                    raise RunFailedError(f"workers were lost {lost} times in a row: {outcome.cause}")
            self.placement = wait_for(self.placement, self.scale, crews=1)

    def _config(self, crew: str) -> dict[str, Any]:
        """What `faceae.cluster.worker.train_worker` is told."""
        return {
            "board": self.board,
            "crew": crew,
            "mask_tasks": self.placement.mask_tasks(),
            "neighbours": self.placement.neighbours(),
        }


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
