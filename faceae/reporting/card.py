"""The model card that lies beside a model's weights: what it is good for, what it was trained on, and its limits.

Its head is what the Hugging Face Hub reads (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from faceae import config, storage
from faceae.config import Run, Settings
from faceae.console import clock
from faceae.reporting import tables
from faceae.reporting.pages import damage, render

FILE = "README.md"


def write(model: str, settings: Settings, summary: Mapping[str, Any]) -> None:
    """Writes the card into a model's folder.

    Args:
        model: the folder.
        settings: the settings of its run.
        summary: the content of the run's summary.json.
    """
    card = render(
        "card.md",
        settings=settings,
        summary=summary,
        damage=damage(settings),
        command=config.command(dataclasses.replace(settings, run=Run())),
        headings=tables.in_one_line(tables.headings(settings.task_name)),
        rows=tables.rows(summary, settings),
        time=clock(summary["train_seconds"]),
    )
    storage.write(storage.join(model, FILE), card)
