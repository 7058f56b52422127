"""A grid of runs under ASHA: Ray Tune schedules the trials, the driver watches and keeps what they give."""

from __future__ import annotations

import os
import time
from typing import Any

from faceae import config
from faceae.cluster import connection as cluster
from faceae.cluster import placement
from faceae.cluster.placement import Placement
from faceae.cluster.worker_groups import Crews
from faceae.config import grid
from faceae.config.grid import GridSettings, Point
from faceae.console import count, out
from faceae.data import dataset
from faceae.data.split import Split
from faceae.drivers.train import check_shares
from faceae.evaluation.summary import Baselines
from faceae.run_folder import RunFolder
from faceae.tuning import trials
from faceae.tuning.result import GridResult
from faceae.tuning.search import Search


def tune(settings: GridSettings) -> dict[str, Any]:
    """Runs a grid and leaves its folder as the README describes it.

    Args:
        settings: of the grid; checked here, whoever made them.

    Returns:
        The content of grid.json.

    Raises:
        InputError: the input is wrong; said before any trial starts.
        RunFailedError: every trial failed.
        KeyboardInterrupt: Ctrl-C, once what there is has been written.
    """
    started = time.monotonic()
    settings = config.validate(settings)
    points = grid.points(settings)
    folder = RunFolder(settings)
    split = Split(settings.data)
    settings = folder.settings
    result: GridResult | None = None
    try:
        with folder.claim() as resumed:
            out.print(f"grid      {folder.uri}" + (" (continued)" if resumed else ""))
            placed = _place(settings, points)
            with Crews(placed, settings.scale) as crews:  # they start while the images are decoded
                images = dataset.load(settings, split, folder)
                check_shares("--data.source", len(images.train), placed)
                opened = trials.open_trials(points, folder)
                baselines = Baselines(images.val, settings.data.image_size, settings.train.batch_size)
                result = GridResult(folder, opened, images, baselines, placed, started)
                Search(settings, opened, images, crews, result.keep).run()
    except KeyboardInterrupt:
        if result:
            out.print("\ninterrupted; writing what there is")
            result.conclude(interrupted=True)
        raise
    return result.conclude()


def _place(settings: GridSettings, points: list[Point]) -> Placement:
    """Starts or finds the cluster, and decides how many trials run at a time."""
    (workers, _), wanted = settings.scale.bounds or (1, 1), settings.tune.concurrent
    at_once = max(1, (os.cpu_count() or 1) // workers) if wanted == "auto" else wanted
    cluster.connect(min(at_once, len(points)) * workers)
    placed = placement.place_trials(settings.scale, wanted, len(points))
    out.print(f"cluster   {count(len(points), 'trial')}, {placed.concurrent} at a time, each with {placed}")
    for point in points:
        batch = point.settings.train.batch_size
        check_shares(f"--train.batch-size {batch}", batch, placed)
    return placed
