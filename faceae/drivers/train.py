"""One training run, from the settings to the report: what the driver does."""

from __future__ import annotations

import time
from typing import Any

from faceae import config, console, storage
from faceae.cluster import connection as cluster
from faceae.cluster import placement
from faceae.cluster.fit import fit
from faceae.cluster.placement import Placement
from faceae.cluster.worker_groups import Crews
from faceae.config import Settings
from faceae.console import out
from faceae.data import dataset
from faceae.data.split import Split
from faceae.errors import InputError
from faceae.run_folder import RunFolder
from faceae.tracking import Tracker


def train(settings: Settings) -> dict[str, Any]:
    """Trains one model and leaves the run's folder as the README describes it.

    Args:
        settings: of the run; checked here, whoever made them.

    Returns:
        The content of summary.json.

    Raises:
        InputError: the input is wrong; said before any worker starts, but for images that cannot be decoded.
        RunFailedError: the run failed.
    """
    started = time.time()
    settings = config.validate(settings)
    folder = RunFolder(settings)
    split = Split(settings.data)
    settings = folder.settings
    with folder.claim() as resumed, Tracker(folder, settings.run.track) as tracker:
        out.print(f"run       {folder.uri}" + (" (continued)" if resumed else ""))
        least, _ = settings.scale.bounds or (1, 1)
        cluster.connect(least)
        placed = placement.place(settings.scale)
        out.print(f"cluster   {placed}")
        check_shares(f"--train.batch-size {settings.train.batch_size}", settings.train.batch_size, placed)
        with Crews(placed, settings.scale) as crews:  # they start while the images are decoded
            images = dataset.load(settings, split, folder)
            check_shares("--data.source", len(images.train), placed)
            state = fit(folder, images, crews, tracker)
        from faceae.evaluation import summary as outcome  # torch takes seconds to import, while the crew could start
        from faceae.reporting import report  # torch takes seconds to import, while the crew could start

        history = storage.read_lines(folder.path("metrics.jsonl"))
        baselines = outcome.Baselines(images.val, settings.data.image_size, settings.train.batch_size).wait()
        summary = outcome.summarize(folder.name, settings, history, baselines, images) | {
            "started": round(started, 1),
            "seconds_to_first_step": round(state.first_step - started, 1) if state.first_step else None,
            "wall_seconds": round(time.time() - started, 1),
            "workers": state.workers,
            "device": state.device,
        }
        sheet = report.contact_sheet(folder.path("model"), images.val, settings.data.image_size)
        report.write(folder.path("report"), settings, summary, history, sheet)
        storage.write_json(folder.path("summary.json"), summary)
        tracker.summary = summary
    out.print()
    heading = f"{summary['counts']['val']} validation images"
    out.print(console.result_table(heading, console.rows(summary, settings)))
    outcome.say_caveats(summary)
    out.print(f"\nmodel     {folder.path('model')}")
    out.print(f"report    {folder.path('report', 'index.html')}")
    return summary


def check_shares(what: str, images: int, placement: Placement) -> None:
    """Raises InputError if there are fewer images than workers to share them."""
    if images < placement.most_workers:
        raise InputError(
            f"{what}: {images} images cannot be shared among {placement.most_workers} workers; use fewer "
            "--scale.workers"
        )
