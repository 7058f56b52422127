"""The driver of jobs/tune.py: a grid of runs. Ray Tune schedules the trials; the driver saves results."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

from faceae import config
from faceae.cluster import connection, placement
from faceae.cluster.placement import Placement
from faceae.cluster.preflight import check_batch_norm, check_network
from faceae.cluster.worker_groups import WorkerGroups
from faceae.config import points
from faceae.config.grid import GridSettings
from faceae.config.points import Point
from faceae.console import count, out
from faceae.data.dataset import load_dataset
from faceae.data.listing import check_listing
from faceae.data.mask_library import read_masks
from faceae.data.split import Split
from faceae.drivers import advice
from faceae.evaluation.run_baselines import Baselines
from faceae.run_folder import RunFolder
from faceae.tuning.order import order
from faceae.tuning.proposals import check_installed
from faceae.tuning.result import GridResult
from faceae.tuning.search import Search
from faceae.tuning.trials import open_trial, open_trials, saved_rows


def tune(settings: GridSettings) -> dict[str, Any]:
    """Runs a grid and leaves its folder as docs/usage.md describes it.

    Args:
        settings: the grid's settings; validated here.

    Returns:
        The content of grid.json.

    Raises:
        InputError: the input is wrong; raised before any trial starts.
        RunFailedError: every trial failed.
        KeyboardInterrupt: Ctrl-C; raised after the results so far have been written.
    """
    started = time.monotonic()
    settings = config.validate(settings)
    checked = points.checked(settings)
    if settings.tune.search == "optuna":
        check_installed()
    folder = RunFolder(settings)
    split = Split(settings.data)
    library = read_masks(settings.mask.images, settings.data.image_size)
    settings = folder.settings
    result: GridResult | None = None
    with folder.claim() as resumed:
        out.print(f"grid      {folder.uri}" + (" (continued)" if resumed else ""))
        advice.give(settings)
        check_listing(split, library and library.entries, folder, resumed)
        placed = _place(settings, checked, settings.tune.samples if settings.tune.search == "optuna" else len(checked))
        try:
            with WorkerGroups(placed, settings.scale, folder.uri) as groups:  # start while the images are decoded
                dataset = load_dataset(settings, split, library, folder)
                placed.check_shares("--data.source", len(dataset.train))
                for point in checked:
                    check_batch_norm(point.settings, placed, len(dataset.train))
                trials = open_trials(_known(settings, folder), folder)
                baselines = Baselines(dataset, split.val, settings.train.batch_size)
                result = GridResult(folder, trials, dataset, baselines, placed, started)
                following = order(settings, trials, partial(open_trial, grid=folder))
                Search(settings, trials, following, dataset, groups, folder.held, result.keep).run()
        except KeyboardInterrupt:
            if result:
                out.print("\ninterrupted; writing the results so far")
                result.conclude(interrupted=True)
            raise
        return result.conclude()


def _known(settings: GridSettings, folder: RunFolder[GridSettings]) -> list[Point]:
    """Returns the trials so far: those of the settings, and in a continued grid those that were added to them."""
    known = points.known(settings)
    names, rows = {point.name for point in known}, saved_rows(folder)
    added = {int(name.split("-")[0]): row["settings"] for name, row in rows.items() if name not in names}
    return known + [points.proposed(settings, number, values) for number, values in sorted(added.items())]


def _place(settings: GridSettings, checked: list[Point], trials: int) -> Placement:
    """Connects to the cluster, or starts one, and decides how many of a grid's trials run at a time."""
    (workers, _), wanted = settings.scale.bounds or (1, 1), settings.tune.concurrent
    at_once = max(1, (os.cpu_count() or 1) // workers) if wanted == "auto" else wanted
    connection.connect(min(at_once, trials) * workers)
    sharing = placement.trials_sharing_a_gpu(point.settings for point in checked)
    placed = placement.place_trials(settings.scale, wanted, trials, sharing)
    out.print(f"cluster   {count(trials, 'trial')}, {placed.concurrent} at a time, each with {placed}")
    if placed.gpu < 1 and placed.gpu and settings.scale.gpus_per_worker is None:
        out.print("          small trials share a GPU; --scale.gpus-per-worker 1 gives each a whole one")
    for point in checked:
        batch = point.settings.train.batch_size
        placed.check_shares(f"--train.batch-size {batch}", batch)
        check_network(point.settings, placed)
    return placed
