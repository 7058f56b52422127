"""The report of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from faceae.config import Settings
from faceae.reporting import plots, tables
from faceae.reporting.comparison import longer
from faceae.reporting.pages import write_page


def write(
    uri: str,
    settings: Settings,
    summary: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    sheets: Mapping[str, Image.Image],
) -> None:
    """Writes index.html, curves.png, faces.png and holes.png.

    Args:
        uri: the report's folder.
        settings: the run's settings.
        summary: the content of summary.json.
        history: the records of metrics.jsonl.
        sheets: the contact sheets by name, see `faceae.reporting.contact_sheet`.
    """
    write_page(
        uri,
        "report.html",
        {
            "curves": plots.curves(history, summary, settings.train.loss),
            **{name: plots.png(sheet) for name, sheet in sheets.items()},
        },
        settings=settings,
        summary=summary,
        headings=tables.in_one_line(tables.headings(settings.task_name)),
        rows=tables.rows(summary, settings),
        history=history,
        command=longer(settings),
    )
