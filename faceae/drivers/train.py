"""The driver of jobs/train.py: one training run, from the settings to the report."""

from __future__ import annotations

import importlib
import threading
import time
from contextlib import ExitStack
from typing import Any

from faceae import config
from faceae.cluster import connection, placement
from faceae.cluster.preflight import check_batch_norm, check_network
from faceae.cluster.protocol import RunSpec, RunStatus
from faceae.cluster.worker_groups import WorkerGroups
from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data.dataset import load_dataset
from faceae.data.listing import check_listing
from faceae.data.mask_library import read_masks
from faceae.data.split import Split
from faceae.drivers import advice
from faceae.errors import RunFailedError
from faceae.reporting.tables import epoch_line, headings, result_table, rows
from faceae.run_folder import RunFolder
from faceae.tracking import Tracker
from faceae.training.progress import Record


def train(settings: Settings) -> dict[str, Any]:
    """Trains one model and leaves the run's folder as docs/usage.md describes it.

    Args:
        settings: the run's settings; validated here.

    Returns:
        The content of summary.json.

    Raises:
        InputError: the input is wrong; raised before any worker starts, except for images that cannot be decoded.
        RunFailedError: the run failed.
    """
    started = time.monotonic()
    settings = config.validate(settings)
    folder = RunFolder(settings)
    split = Split(settings.data)
    library = read_masks(settings.mask.images, settings.data.image_size)
    settings = folder.settings
    with folder.claim() as resumed, Tracker(folder, settings.run.track) as tracker:
        out.print(f"run       {folder.uri}" + (" (continued)" if resumed else ""))
        advice.give(settings)
        check_listing(split, library and library.entries, folder, resumed)
        least, _ = settings.scale.bounds or (1, 1)
        connection.connect(least)
        placed = placement.place(settings.scale)
        out.print(f"cluster   {placed}")
        placed.check_shares(f"--train.batch-size {settings.train.batch_size}", settings.train.batch_size)
        check_network(settings, placed)
        with WorkerGroups(placed, settings.scale, folder.uri) as groups:  # start while the images are decoded
            dataset = load_dataset(settings, split, library, folder, len(tracker.history) + 1)
            placed.check_shares("--data.source", len(dataset.train))
            check_batch_norm(settings, placed, len(dataset.train))
            spec = RunSpec(folder.uri, settings, groups.share(dataset), placed.max_workers, folder.held)
            status = _train(spec, dataset.sampler(settings, placed.max_workers).images, groups, tracker)
        from faceae.drivers.conclusion import conclude  # by now `_train` has imported it

        summary = tracker.summary = conclude(folder, dataset, split.val, status, started)
    _print_result(folder, summary)
    return summary


def _train(spec: RunSpec, images: int, groups: WorkerGroups, tracker: Tracker) -> RunStatus:
    """Has a worker group train a run, from its last checkpoint if it has one, and shows the progress.

    Args:
        spec: the run.
        images: number of images in an epoch.
        groups: the worker groups, of which one trains the run.
        tracker: receives the finished epochs.

    Raises:
        RunFailedError: the loss diverged, workers died repeatedly, or a write to the storage failed.
        KeyboardInterrupt: Ctrl-C; a checkpoint has been written.
    """
    ahead = threading.Thread(target=importlib.import_module, args=("faceae.drivers.conclusion",))
    groups.register(spec)
    groups.submit(spec.uri)
    groups.close()
    try:
        with _Screen(spec.settings, images, tracker) as screen:
            version = 0
            while True:
                changes = groups.changes(version, {spec.uri: len(screen.history)})
                version = changes.version
                if status := changes.runs.get(spec.uri):
                    screen.show(status)
                    if status.device and ahead.ident is None:
                        ahead.start()  # the workers have imported torch, so that there is a core for it
                    if status.failure:
                        raise RunFailedError(status.failure)
                    if status.ended:
                        return status
    except KeyboardInterrupt:
        groups.stop()
        raise


class _Screen:
    """Shows a run's status in the terminal, and passes its epochs to the tracker."""

    def __init__(self, settings: Settings, images: int, tracker: Tracker) -> None:
        self.settings, self.images, self.tracker = settings, images, tracker
        trained = sum(record["seconds"] for record in tracker.history)  # in earlier sessions
        budget = settings.train.max_minutes
        self.limit = 60 * budget - trained if budget else None
        self.history: list[Record] = []
        self.notes = self.before = 0
        self.meter: Meter | None = None
        self.stack = ExitStack()

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def show(self, status: RunStatus) -> None:
        """Prints new notes and epochs, and updates the progress."""
        say = self.meter.line if self.meter else out.print
        for note in status.notes[self.notes :]:
            say(f"note      {note}")
        self.notes = len(status.notes)
        if not status.device:
            return
        if self.meter is None:
            self.meter = self._begin(status)
        for record in status.records:
            self.history.append(record)
            if record["epoch"] > status.begun[0]:
                self.tracker.epoch(self.history)
                self.meter.set(self.images * record["epoch"] - self.before)
                self.meter.line(epoch_line(record, self.settings, self.meter.seconds_left()))
        if status.step:
            epoch, images = status.step
            self.meter.set(self.images * (epoch - 1) + images - self.before)

    def _begin(self, status: RunStatus) -> Meter:
        epochs, images = status.begun
        self.before = epochs * self.images + images
        left = self.images * self.settings.train.epochs - self.before
        meter = self.stack.enter_context(Meter("training", left, self.limit))
        if self.before:
            meter.line(f"resumed   in epoch {epochs + 1}" + (f", image {images}" if images else ""))
        return meter


def _print_result(folder: RunFolder[Settings], summary: dict[str, Any]) -> None:
    from faceae.reporting.comparison import longer, print_caveats, print_sharpness

    out.print()
    heading = f"{summary['counts']['val']} validation images"
    out.print(result_table(heading, rows(summary, folder.settings), headings(folder.settings.task_name)))
    command = longer(folder.settings)
    print_caveats(summary, command)
    print_sharpness(summary, folder.settings.train, command)
    out.print(f"\nmodel     {folder.path('model')}")
    out.print(f"report    {folder.path('report', 'index.html')}")
