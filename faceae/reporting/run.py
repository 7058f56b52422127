"""The report of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from faceae.config import Settings
from faceae.reporting import plots, tables
from faceae.reporting.pages import write_page


def write(
    uri: str,
    settings: Settings,
    summary: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    sheet: Image.Image,
) -> None:
    """Writes index.html, curves.png and faces.png.

    Args:
        uri: the report's folder.
        settings: the run's settings.
        summary: the content of summary.json.
        history: the records of metrics.jsonl.
        sheet: the contact sheet.
    """
    write_page(
        uri,
        "report.html",
        {"curves": plots.curves(history, summary), "faces": plots.png(sheet)},
        settings=settings,
        summary=summary,
        headings=tables.in_one_line(heading for heading, _ in tables.COLUMNS.values()),
        rows=tables.rows(summary, settings),
        history=history,
    )
