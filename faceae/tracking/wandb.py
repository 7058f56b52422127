"""Sends metrics to Weights & Biases; needs the extra `faceae[wandb]`."""

from __future__ import annotations

import importlib
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from faceae import storage
from faceae.config import Settings
from faceae.run_folder import RunFolder
from faceae.tracking import fields
from faceae.training.progress import Record


class WandB:
    """A run in the W&B project "faceae", or in the one that WANDB_PROJECT names.

    W&B's client sends in the background and retries by itself. Its files are in the run's folder if that is local. With
    WANDB_MODE=offline these files are the only output; `wandb sync` uploads them.
    """

    advice = "check WANDB_API_KEY and WANDB_BASE_URL, or set WANDB_MODE=offline to run without the server"

    def __init__(self, folder: RunFolder[Settings], group: str | None, known: str | None) -> None:
        wandb = importlib.import_module("wandb")
        wandb.setup(settings=wandb.Settings(silent=True))  # W&B then neither prints nor prompts
        self.id = known or uuid.uuid4().hex[:16]
        local = not storage.is_remote(folder.uri) and "WANDB_DIR" not in os.environ
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", fields.PROJECT),
            name=folder.name,
            id=self.id,
            group=group,
            config=fields.parameters(folder.settings) | {"folder": folder.uri},
            dir=folder.uri if local else None,
            resume="allow",
            reinit="create_new",  # the trials of a grid are runs at the same time
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=30,
                finish_timeout=60,
                finish_timeout_raises=True,
                disable_git=True,  # W&B would upload uncommitted changes, whatever they contain
                x_disable_stats=True,  # they describe the driver's machine, which does not train
            ),
        )
        self.run.define_metric("*", step_metric="epoch")
        # The first epoch that the server lacks. Offline W&B cannot know it, and the new file gets all epochs again.
        self.next: int = self.run.starting_step

    def sync(self, history: Sequence[Record]) -> None:
        """Adds the records that W&B lacks."""
        for record in history:
            if record["epoch"] >= self.next:
                self.run.log({"epoch": record["epoch"], **fields.numbers(record)}, step=record["epoch"])
                self.next = record["epoch"] + 1

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        """Adds the metrics of the best epoch to the run's summary and ends the run."""
        if summary:
            self.run.summary.update(fields.best(summary))
        self.run.finish(exit_code=0 if summary else 255 if interrupted else 1)  # 255 is W&B's own code for Ctrl-C
