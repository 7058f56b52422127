"""Ray Train runs the workers; the driver watches them."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer

from faceae import cluster, console
from faceae.board import Board, State
from faceae.cluster import Placement
from faceae.config import Settings
from faceae.console import Meter
from faceae.data.cache import Blocks
from faceae.data.feed import Order
from faceae.errors import RunFailedError
from faceae.run import RunFolder
from faceae.worker import Job, train_worker

WORKER_RETRIES = 3
"""Times that a run goes on from its last checkpoint after a worker or its node has died."""

POLL_S = 0.3

CONTROLLER_POLL_S = "0.2"
"""How often Ray Train looks at its workers. Each report of a checkpoint waits for that look: at Ray's 2 s, every epoch
lost up to 2 s (measured: 8 epochs of 0.2 s each took 14 s, now 1.5 s)."""


def fit(folder: RunFolder, order: Order, val: Blocks, placement: Placement) -> str:
    """Trains, from the last checkpoint if the run has one, and shows how far it is.

    Returns:
        The name of the device that the workers train on.

    Raises:
        RunFailedError: the loss diverged, or workers died again and again.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", CONTROLLER_POLL_S)
    board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=cluster.on_this_node()).remote()
    tasks = cluster.mask_tasks(placement.workers)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": Job(folder.settings, order, val, tasks, board, folder.uri)},
        scaling_config=ray.train.ScalingConfig(num_workers=placement.workers, use_gpu=placement.gpu),
        run_config=ray.train.RunConfig(
            name="checkpoints",  # with the same storage_path and name, Ray Train goes on from its last checkpoint
            storage_path=folder.uri,
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=WORKER_RETRIES),
        ),
    )
    fitting = _in_thread(trainer.fit)
    state = _watch(board, fitting, folder.settings, len(order.blocks))
    try:
        fitting.result()
    except ray.train.TrainingFailedError as error:
        raise RunFailedError(f"training failed: {_cause(error)}") from error
    if state.failure:
        raise RunFailedError(state.failure)
    return state.device


def _in_thread(function: Any) -> Future[Any]:  # noqa: ANN401
    """Runs Ray Train beside the main thread, where Ctrl-C is heard."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # handed on to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="ray-train").start()
    return future


def _watch(board: Any, fitting: Future[Any], settings: Settings, images: int) -> State:  # noqa: ANN401
    """Shows the board until the training is over; returns what stands on it then."""
    epochs, seen, restarts = settings.train.epochs, 0, 0
    meter: Meter | None = None
    with ExitStack() as stack:
        while True:
            over = fitting.done()  # asked before the last look at the board, lest an epoch be missed
            state: State = ray.get(board.read.remote(seen))
            if meter is None and state.device:
                meter = stack.enter_context(Meter("training", images * (epochs - state.epochs_before)))
            if meter:
                for epoch in state.restarts[restarts:]:
                    restarts += 1
                    meter.line(f"note      a worker was lost; training goes on after epoch {epoch}")
                for record in state.records:
                    meter.set(images * (record["epoch"] - state.epochs_before))
                    meter.line(console.epoch_line(record, epochs, meter.seconds_left()))
                if state.step:
                    meter.set(images * (state.step[0] - 1 - state.epochs_before) + state.step[1])
            seen += len(state.records)
            if over:
                return state
            time.sleep(POLL_S)


def _cause(error: BaseException) -> str:
    """The innermost error of a failed run, in one line."""
    if failures := getattr(error, "worker_failures", None):
        error = failures[min(failures)]
    error = getattr(error, "controller_failure", error)
    error = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
