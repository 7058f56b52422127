"""Runs to be tracked, without the training: their records are made up."""

import threading

from runs import small

from faceae import storage
from faceae.metrics import NAMES
from faceae.run_folder import RunFolder
from faceae.tracking import Tracker

SECRET = "0123456789abcdef0123456789abcdef01234567"


def finish(tracker, summary, interrupted=False):
    tracker.summary = summary
    tracker.end(interrupted)


def call(channel, function):
    """Calls a function in the thread of a service, after all calls before it."""
    over = threading.Event()
    channel.calls.put(lambda: (function(), over.set()))
    assert over.wait(20)


def record(epoch):
    return {
        "epoch": epoch,
        "time": 1.7e9 + 60 * epoch,
        "images": 76,
        "seconds": 7.9,
        "images_per_second": 9.6,
        "data_wait_fraction": 0.0012,
        "memory_bytes": 812345678,
        "train_loss": 0.5 / epoch,
        "val": {name: 0.25 / epoch + number for number, name in enumerate(NAMES)},
    }


def open_folder(root, name="run", **changes):
    folder = RunFolder(small("faces", root, name, run__resume=True, **changes))
    folder.open()
    return folder


def send(tracker, folder, first, last):
    """Sends the epochs of a session to the tracker."""
    for epoch in range(first, last + 1):
        history = [record(number) for number in range(1, epoch + 1)]
        storage.write_lines(folder.path("metrics.jsonl"), history)
        tracker.epoch(history)


def summary(epoch):
    return {"best_epoch": epoch, "val": record(epoch)["val"]}


def run_session(folder, first, last, kinds=()):
    """Tracks a whole session, from its first epoch to its summary."""
    tracker = Tracker(folder, kinds)
    send(tracker, folder, first, last)
    finish(tracker, summary(last))


def numbers(epoch):
    """The values that a service gets for an epoch."""
    values = {key: value for key, value in record(epoch).items() if key not in ("epoch", "time", "val")}
    return values | {f"val/{name}": value for name, value in record(epoch)["val"].items()}
