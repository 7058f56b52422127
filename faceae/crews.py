"""Groups of Ray Train workers, started once: each trains one run after the other, those of a grid too.

Five processes of Ray's and ours have to import ray and torch before a group can train: on two cores a trial of a grid
took 25 s to start when each had its own, two at a time. The next run of a group begins at once.
"""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer

from faceae import board
from faceae.board import Task
from faceae.checkpoint import Record
from faceae.cluster import Placement
from faceae.config import Settings
from faceae.dataset import Images
from faceae.errors import RunFailedError
from faceae.run import RunFolder
from faceae.worker import Job, train_worker

WORKER_RETRIES = 3
"""Times that a crew goes on, from the last checkpoint of its run, after a worker or its node has died."""

CONTROLLER_POLL_S = "0.2"
"""How often Ray Train looks at its workers, in seconds: it sees the end of a run, or a dead worker, so much later.
Ray's own is 2 s."""


class Crews:
    """The crews of a run (one) or of a grid (as many as trials run at a time)."""

    def __init__(self, placement: Placement) -> None:
        """Starts them, with a board where they find what to train, and returns at once.

        Args:
            placement: of each crew's workers, and how many crews there are.
        """
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", CONTROLLER_POLL_S)
        self.board, self.board_name = board.hang_up()
        self.placement = placement
        self.dismissed = False
        self.working: dict[str, Future[None]] = {}
        for _ in range(placement.concurrent):
            self._launch()

    def __enter__(self) -> Crews:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dismiss()
        if error is None:
            for working in self.working.values():
                working.exception()  # waits: then its resources are free
            ray.kill(self.board)  # and with it what it knows of the images

    def task(self, folder: RunFolder[Settings], images: Images, history: Sequence[Record] = ()) -> Task:
        """What they have to know of a run, which may have a history of an earlier session."""
        settings = folder.settings
        job = Job(
            settings=settings,
            order=images.order(settings),
            val=images.val,
            mask_tasks=self.placement.mask_tasks(),
            neighbours=self.placement.neighbours(),
            run_uri=folder.uri,
        )
        return Task(folder.uri, [ray.put(job)], settings.train.epochs, settings.train.best_by, list(history))

    def dismiss(self) -> None:
        """Lets every crew go that finds no more runs, and so frees its resources."""
        if not self.dismissed:
            ray.get(self.board.dismiss.remote())
        self.dismissed = True

    def mend(self) -> None:
        """Replaces the crews that broke up; the board has the reason, as the failure of the run they were at.

        Raises:
            RunFailedError: a crew broke up before it had a run: another would, too.
        """
        for crew in [crew for crew, working in self.working.items() if working.done() and working.exception()]:
            failure = str(self.working.pop(crew).exception())
            if ray.get(self.board.end.remote(crew, failure)) is None:
                raise RunFailedError(failure)
            if not self.dismissed:
                self._launch()

    def _launch(self) -> None:
        crew = uuid.uuid4().hex
        resources = {"CPU": 1.0, **({"GPU": self.placement.gpu} if self.placement.gpu else {})}

        def work() -> None:
            with tempfile.TemporaryDirectory() as scratch:  # what a run keeps, the workers write themselves
                trainer = TorchTrainer(
                    train_worker,
                    train_loop_config={"board": self.board, "crew": crew},
                    scaling_config=ray.train.ScalingConfig(
                        num_workers=self.placement.workers,
                        use_gpu=self.placement.gpu > 0,
                        resources_per_worker=resources,
                    ),
                    run_config=ray.train.RunConfig(
                        name="crew",
                        storage_path=scratch,
                        failure_config=ray.train.FailureConfig(max_failures=WORKER_RETRIES),
                    ),
                )
                try:
                    trainer.fit()
                except ray.train.TrainingFailedError as error:
                    raise RunFailedError(f"training failed: {_cause(error)}") from error

        self.working[crew] = in_thread(work)


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
