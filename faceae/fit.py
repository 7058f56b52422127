"""One run, trained by a crew of Ray Train workers while the driver watches."""

from __future__ import annotations

import time
from contextlib import ExitStack

import ray

from faceae import console
from faceae.board import State
from faceae.config import Settings
from faceae.console import Meter
from faceae.crews import Crews
from faceae.dataset import Images
from faceae.errors import RunFailedError
from faceae.run import RunFolder

POLL_S = 0.3
"""Seconds between two looks at the board."""


def fit(folder: RunFolder[Settings], images: Images, crews: Crews) -> str:
    """Trains, from the last checkpoint if the run has one, and shows how far it is.

    Returns:
        The name of the device that the workers train on.

    Raises:
        RunFailedError: the loss diverged, or workers died again and again.
    """
    ray.get(crews.board.give.remote(crews.task(folder, images)))
    crews.dismiss()
    state = _watch(folder, len(images.train), crews)
    if state.failure:
        raise RunFailedError(state.failure)
    return state.device


def _watch(folder: RunFolder[Settings], images: int, crews: Crews) -> State:
    """Shows the board until the training is over; returns what stands on it then."""
    epochs, seen, restarts = folder.settings.train.epochs, 0, 0
    meter: Meter | None = None
    with ExitStack() as stack:
        while True:
            crews.mend()
            state: State = ray.get(crews.board.read.remote(folder.uri, seen))
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
            if state.ended:
                return state
            time.sleep(POLL_S)
