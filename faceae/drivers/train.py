"""The driver of jobs/train.py: one training run, from the settings to the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from faceae import config, storage
from faceae.cluster import connection, placement
from faceae.cluster.preflight import check_batch_norm, check_network
from faceae.cluster.protocol import RunSpec, RunStatus
from faceae.cluster.worker_groups import WorkerGroups
from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data.dataset import FaceDataset, load_dataset
from faceae.data.listing import check_listing
from faceae.data.mask_library import read_masks
from faceae.data.sources import Entry
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
        summary = tracker.summary = _conclude(folder, dataset, split.val, status, started)
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


def _conclude(
    folder: RunFolder[Settings], dataset: FaceDataset, val: Sequence[Entry], status: RunStatus, started: float
) -> dict[str, Any]:
    """Measures the baselines, writes the report and summary.json, and returns the content of summary.json."""
    from faceae.evaluation import pca  # imported late: torch takes seconds
    from faceae.evaluation.run_baselines import Baselines
    from faceae.evaluation.summary import summarize
    from faceae.reporting import card
    from faceae.reporting import run as report
    from faceae.reporting.contact_sheet import contact_sheets
    from faceae.reporting.latent_sheet import latent_sheet

    settings = folder.settings
    history = storage.read_lines(folder.path("metrics.jsonl"))
    baselines = Baselines(dataset, val, settings.train.batch_size)
    summary = summarize(folder.name, settings, history, baselines, dataset, folder.path("model"))
    wall = time.monotonic() - started
    summary |= {
        "started": round(time.time() - wall, 1),  # noqa: TID251  (a date)
        "seconds_to_first_step": round(status.first_step - started, 1) if status.first_step else None,
        "wall_seconds": round(wall, 1),
        "workers": status.workers,
        "device": status.device,
    }
    best = summary["best_baseline"]
    sheets = contact_sheets(folder.path("model"), dataset.val, dataset.task, best, baselines.fill(best))
    if settings.task_name == "reconstruct":
        sheets["latent"] = latent_sheet(folder.path("model"), dataset.val, dataset.task)
    folder.held.check()
    storage.write(folder.path("model", pca.FILE), baselines.pca())
    card.write(folder.path("model"), settings, summary)
    report.write(folder.path("report"), settings, summary, history, sheets)
    storage.write_json(folder.path("summary.json"), summary)
    return summary


def _print_result(folder: RunFolder[Settings], summary: dict[str, Any]) -> None:
    from faceae.reporting.comparison import longer, print_caveats

    out.print()
    heading = f"{summary['counts']['val']} validation images"
    out.print(result_table(heading, rows(summary, folder.settings), headings(folder.settings.task_name)))
    print_caveats(summary, longer(folder.settings))
    out.print(f"\nmodel     {folder.path('model')}")
    out.print(f"report    {folder.path('report', 'index.html')}")
