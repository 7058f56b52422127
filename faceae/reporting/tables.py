"""Tables and lines of metrics for the terminal and the pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from faceae.config import Settings
from faceae.config.article import ReportedResult, matching
from faceae.console import clock, speed

COLUMNS = {
    "mse": ("MSE\nframe", ".4f"),
    "hole_mse": ("MSE\nhole", ".4f"),
    "composite_mse": ("MSE\ncomposite", ".5f"),
    "composite_psnr_db": ("PSNR, dB\ncomposite", ".2f"),
    "composite_ssim": ("SSIM\ncomposite", ".4f"),
    "rgb_argmax_accuracy": ("accuracy\nRGB argmax", ".2%"),
}
"""The metrics in the tables of inpainting: heading and number format."""

OF_WHOLE_FRAME = {
    "mse": ("MSE", ".5f"),
    "psnr_db": ("PSNR, dB", ".2f"),
    "composite_ssim": ("SSIM", ".4f"),
    "rgb_argmax_accuracy": COLUMNS["rgb_argmax_accuracy"],
}
"""The metrics in the tables of tasks that ask for every pixel: there hole, composite and frame are the same."""


def columns(task: str) -> Mapping[str, tuple[str, str]]:
    """Returns the metrics in the tables of a task, or of several: heading and number format."""
    return COLUMNS if asks_for_holes(task) else OF_WHOLE_FRAME


def asks_for_holes(task: str) -> bool:
    """Whether a task, or one of several, asks for a part of an image only; see `faceae.config.Settings.task_name`."""
    return "inpaint" in task.split("+")


def headings(task: str) -> list[str]:
    """Returns the headings of `columns`."""
    return [heading for heading, _ in columns(task).values()]


def epoch_line(record: Mapping[str, Any], settings: Settings, seconds_left: float) -> str:
    """Describes a finished epoch in one line."""
    val, last = record["val"], settings.train.epochs
    number = f"{record['epoch']:{len(str(last))}}" + ("" if settings.train.max_minutes else f"/{last}")
    reached = f"mse {val['mse']:.4f}, hole {val['hole_mse']:.4f}, composite {val['composite_mse']:.5f}"
    if not asks_for_holes(settings.task_name):
        reached = f"mse {val['mse']:.5f}, {val['psnr_db']:.2f} dB"
    return (
        f"epoch {number}  loss {record['train_loss']:.4f}  val: {reached}  {speed(record['images_per_second'])}"
        f" ({record['data_wait_fraction']:.1%} waiting for data), {clock(seconds_left)} left"
    )


Row = tuple[str, list[str]]
"""A row: its label, and a cell for each of `columns`."""


def rows(summary: Mapping[str, Any], settings: Settings) -> list[Row]:
    """Returns the rows of a run: its best epoch, the baselines, and what the article reports."""
    named = {f"this model, epoch {summary['best_epoch']}": summary["val"], **references(summary)}
    return measured(named, settings.task_name) + reported(matching(settings))


def references(summary: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Returns what stands below a model in a table: the baselines, and above them the model on the same sample."""
    compared = summary["compared"]
    sampled = {f"on a sample of {compared['images']}": compared["val"]} if compared["images"] < compared["of"] else {}
    return sampled | summary["baselines"]


def measured(named: Mapping[str, Mapping[str, float]], task: str = "inpaint") -> list[Row]:
    """Returns a row for each set of metrics, given by label."""
    shown = columns(task)
    return [
        (label, [format(values[name], form) for name, (_, form) in shown.items()]) for label, values in named.items()
    ]


def reported(lines: Sequence[ReportedResult]) -> list[Row]:
    """Returns a row for each result that the article reports; the article gives two figures."""
    table = []
    for line in lines:
        known = {"rgb_argmax_accuracy": line.rgb_argmax_accuracy}
        if line.loss == "mse":
            known["mse"] = line.value
        cells = [format(known[name], form) if name in known else "" for name, (_, form) in COLUMNS.items()]
        table.append((line.label, cells))
    return table


def in_one_line(headings: Iterable[str]) -> list[str]:
    """Returns headings without line breaks, for pages."""
    return [heading.replace("\n", ", ") for heading in headings]


def result_table(heading: str, rows: Sequence[Row], columns: Sequence[str] | None = None) -> Table:
    """Lays out rows as a table for the terminal.

    Args:
        heading: the heading of the labels.
        rows: labels and cells.
        columns: the headings of the cells; by default those of `COLUMNS`.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column(f"\n{heading}")
    for column in columns or [column for column, _ in COLUMNS.values()]:
        table.add_column(column, justify="right")
    for label, cells in rows:
        table.add_row(label, *cells)
    return table
