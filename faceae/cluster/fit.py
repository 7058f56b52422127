"""One run, trained by a crew of Ray Train workers while the driver watches."""

from __future__ import annotations

import time
from contextlib import ExitStack

import ray

from faceae import console
from faceae.cluster.coordinator import State
from faceae.cluster.worker_groups import Crews
from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data.dataset import Images
from faceae.errors import RunFailedError
from faceae.run_folder import RunFolder
from faceae.tracking import Tracker
from faceae.training.progress import Record

POLL_S = 0.3
"""Seconds between two looks at the board."""


def fit(folder: RunFolder[Settings], images: Images, crews: Crews, tracker: Tracker) -> State:
    """Trains, from the last checkpoint if the run has one, and shows how far it is.

    Args:
        folder: of the run.
        images: to train and validate on.
        crews: one; it is free to go afterwards.
        tracker: is told the epochs.

    Returns:
        What stands on the board at the end.

    Raises:
        RunFailedError: the loss diverged, workers died again and again, or the storage refused.
        KeyboardInterrupt: Ctrl-C; a checkpoint has been written.
    """
    task = crews.task(folder, images)
    ray.get(crews.board.give.remote(task))
    crews.dismiss()
    try:
        state = _watch(folder, images.order(folder.settings, crews.placement.most_workers).images, crews, tracker)
    except KeyboardInterrupt:
        crews.halt([folder.uri])
        raise
    if state.failure:
        raise RunFailedError(state.failure)
    return state


def _watch(folder: RunFolder[Settings], images: int, crews: Crews, tracker: Tracker) -> State:
    """Shows the board until the training is over; returns what stands on it then."""
    settings, seen, notes = folder.settings.train, 0, 0
    trained = sum(record["seconds"] for record in tracker.history)  # before this session
    meter: Meter | None = None
    limit = 60 * settings.max_minutes - trained if settings.max_minutes else None
    history: list[Record] = []
    with ExitStack() as stack:
        while True:
            crews.mend()
            state: State = ray.get(crews.board.read.remote(folder.uri, seen))
            before = state.begun[0] * images + state.begun[1]
            say = meter.line if meter else out.print
            for note in state.notes[notes:]:
                say(f"note      {note}")
            notes = len(state.notes)
            if meter is None and state.device:
                meter = stack.enter_context(Meter("training", images * settings.epochs - before, limit))
                history = tracker.history[: state.begun[0]]  # an epoch without its checkpoint is trained again
                if before:
                    inside = f", image {state.begun[1]}" if state.begun[1] else ""
                    meter.line(f"resumed   in epoch {state.begun[0] + 1}{inside}")
            if meter:
                for record in state.records:
                    history.append(record)
                    tracker.epoch(history)
                    meter.set(images * record["epoch"] - before)
                    meter.line(console.epoch_line(record, settings, meter.seconds_left()))
                if state.step:
                    # It imports torch, which takes seconds: while epochs are trained, but not while the first step is.
                    import faceae.tracking.events  # noqa: F401

                    meter.set(images * (state.step[0] - 1) + state.step[1] - before)
            seen += len(state.records)
            if state.ended:
                return state
            time.sleep(POLL_S)
