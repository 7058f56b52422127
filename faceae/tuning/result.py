"""The files of a grid: grid.json and grid.csv while it runs; the best model, its summary and the report at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from faceae import config, storage
from faceae.cluster.placement import Placement
from faceae.config.grid import GridSettings
from faceae.console import out
from faceae.data.dataset import FaceDataset
from faceae.errors import RunFailedError
from faceae.evaluation import pca
from faceae.evaluation.run_baselines import Baselines
from faceae.evaluation.summary import summarize
from faceae.reporting import card
from faceae.reporting.comparison import extended, print_caveats
from faceae.reporting.contact_sheet import contact_sheets
from faceae.reporting.tables import references
from faceae.run_folder import RunFolder
from faceae.tuning import page, trials, view
from faceae.tuning.trials import Trial

LONGER = 4
"""The report's command for longer training takes so many times the epochs, or minutes, of the best settings."""


class GridResult:
    """Saves the state of a grid while it runs, and its result at the end."""

    def __init__(
        self,
        folder: RunFolder[GridSettings],
        opened: Sequence[Trial],
        dataset: FaceDataset,
        baselines: Baselines,
        placement: Placement,
        started: float,
    ) -> None:
        """Reads the cost of earlier sessions, if there were any.

        Args:
            folder: the grid's folder.
            opened: the grid's trials.
            dataset: the images that the trials share.
            baselines: the baselines, which are being measured.
            placement: the placement of each trial.
            started: `time.monotonic()` at the start of this session.
        """
        self.folder, self.trials, self.dataset, self.baselines = folder, opened, dataset, baselines
        self.placement, self.started = placement, started
        uri = folder.path("grid.json")
        self.past = storage.read_json(uri)["cost"] if storage.exists(uri) else None

    def keep(self, state: str = "running") -> dict[str, Any]:
        """Writes grid.json and grid.csv; returns the content of grid.json."""
        self.folder.held.check()
        content = {
            "grid": self.folder.name,
            "state": state,
            "ranked_by": self.folder.settings.train.best_by,
            "trials": trials.rows(self.trials),
            "cost": self._cost(),
            "counts": self.dataset.counts,
        }
        storage.write_json(self.folder.path("grid.json"), content)
        storage.write(self.folder.path("grid.csv"), trials.table(self.trials))
        return content

    def _cost(self) -> dict[str, Any]:
        past = self.past or {"sessions": 0, "wall_seconds": 0.0, "decode_seconds": 0.0}
        return {
            **trials.effort(self.trials),
            "trials_started": sum(trial.state != "pending" for trial in self.trials),
            "trials_pruned": sum(trial.state == "pruned" for trial in self.trials),
            "concurrent": self.placement.concurrent,
            "sessions": past["sessions"] + 1,
            "decoded_images": len(self.dataset.train) + len(self.dataset.val),
            "decode_seconds": round(past["decode_seconds"] + self.dataset.seconds, 1),
            "start_up_seconds": round(sum(trial.start_up_seconds for trial in self.trials), 1),
            "training_seconds": round(sum(trial.training_seconds for trial in self.trials), 1),
            "wall_seconds": round(past["wall_seconds"] + time.monotonic() - self.started, 1),
        }

    def conclude(self, interrupted: bool = False) -> dict[str, Any]:
        """Writes the result, complete or partial, and prints it.

        Returns:
            The content of grid.json.

        Raises:
            RunFailedError: every trial failed before it had finished an epoch.
        """
        state = "interrupted" if interrupted else "finished"
        content = self.keep(state)
        best = trials.ranked(self.trials)[0]
        if not best.history:
            if interrupted:
                return content
            reasons = {trial.reason for trial in self.trials}
            raise RunFailedError(f"all {len(self.trials)} trials failed: {'; '.join(sorted(reasons))}")
        for name in storage.list_files(best.folder.path("model")):
            storage.write(self.folder.path("model", name), storage.read(best.folder.path("model", name)))
        model = self.folder.path("model")
        summary = summarize(
            self.folder.name, best.folder.settings, best.history, self.baselines, self.dataset, model
        ) | {
            "wall_seconds": self._cost()["wall_seconds"],
            "workers": self.placement.workers,
            "device": best.device,
        }
        storage.write(storage.join(model, pca.FILE), self.baselines.pca())
        card.write(model, best.folder.settings, summary)
        storage.write_json(self.folder.path("summary.json"), summary)
        content = self.keep(state)
        reference = summary["best_baseline"]
        sheets = contact_sheets(model, self.dataset.val, self.dataset.task, reference, self.baselines.fill(reference))
        command = self.longer(best)
        page.write(self.folder.path("report"), self.folder.settings, content, self.trials, summary, sheets, command)
        self._print_result(content, summary, command)
        return content

    def longer(self, best: Trial) -> str:
        """Returns the command line that trains the best settings for longer."""
        settings, name = best.folder.settings, f"{self.folder.name}-best"
        run = dataclasses.replace(self.folder.settings.run, name=name, resume=False)
        return config.command(dataclasses.replace(settings, train=extended(settings.train, LONGER), run=run))

    def _print_result(self, content: dict[str, Any], summary: dict[str, Any], command: str) -> None:
        out.print()
        out.print(view.result_table(self.trials, references(summary), summary["counts"]["val"]))
        print_caveats(summary)
        out.print()
        for what, text in view.costs(content["cost"]):
            out.print(f"{what:9} {text}")
        for trial in self.trials:
            if trial.reason:
                out.print(f"failed    {trial.name}: {trial.reason}")
        out.print(f"\nbest      {summary['best_by']} {summary['val'][summary['best_by']]:.5f}; to train it for longer:")
        out.print(f"          {command}")
        out.print(f"model     {self.folder.path('model')}")
        out.print(f"report    {self.folder.path('report', 'index.html')}")
