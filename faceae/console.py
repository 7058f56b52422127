"""What a person sees in the terminal: progress with a rate and the time left, a line an epoch, the final table.

In a terminal the progress is a bar that redraws itself; in a log it is a line every few seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from faceae.config import Settings, Train
from faceae.config.article import ARTICLE, ReportedResult, matching

LOG_EVERY_S = 15
"""Seconds between two lines of progress in a log."""

COLUMNS = {
    "mse": ("MSE\nframe", ".4f"),
    "hole_mse": ("MSE\nhole", ".4f"),
    "composite_mse": ("MSE\ncomposite", ".5f"),
    "composite_psnr_db": ("PSNR, dB\ncomposite", ".2f"),
    "composite_ssim": ("SSIM\ncomposite", ".4f"),
    "rgb_argmax_accuracy": ("accuracy\nRGB argmax", ".2%"),
}
"""Metrics of the tables: heading and format."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def clock(seconds: float) -> str:
    """12.3 s, 4:05 min or 1:02:03 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def count(number: float, what: str) -> str:
    """1 trial, 2 trials."""
    return f"{number:g} {what}" + ("" if number == 1 else "s")


class Meter:
    """Progress of something that is counted in images."""

    def __init__(self, what: str, total: int, limit: float | None = None) -> None:
        """Shows `what` (a participle, as in "reading") of `total` images, or until so many seconds are over."""
        self.what, self.total, self.limit, self.done = what, total, limit, 0
        self.start = self.said = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            console=out,
            transient=True,
        )
        self.task = self.bar.add_task(what, total=total, state="")

    def __enter__(self) -> Meter:
        if out.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if out.is_terminal:
            self.bar.stop()

    def add(self, images: int) -> None:
        """Counts some more images."""
        self.set(self.done + images)

    def set(self, images: int) -> None:
        """Sets the count, and shows it when it is time."""
        self.done = images
        of = "" if self.limit else f"of {self.total} "
        state = f"{images} {of}images, {self.rate():.0f} images/s, {clock(self.seconds_left())} left"
        by_time = self.total * self.seconds() / self.limit if self.limit else 0
        self.bar.update(self.task, completed=max(images, by_time), state=state)
        if not out.is_terminal and time.monotonic() - self.said > LOG_EVERY_S:
            self.line(f"{self.what}: {state}")

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        out.print(text)
        self.said = time.monotonic()

    def rate(self) -> float:
        """Images a second so far."""
        return self.done / self.seconds()

    def seconds_left(self) -> float:
        """At this rate, or until the limit; 0 before the first image."""
        left = (self.total - self.done) / self.rate() if self.done else 0.0
        return left if self.limit is None else max(0.0, min(left, self.limit - self.seconds()))

    def seconds(self) -> float:
        """So far."""
        return max(time.monotonic() - self.start, 1e-9)

    def summary(self) -> str:
        """How long it took, and the rate."""
        return f"{self.done} images in {clock(self.seconds())} ({self.rate():.0f} images/s)"


def epoch_line(record: Mapping[str, Any], settings: Train, seconds_left: float) -> str:
    """One finished epoch in one line."""
    val, last = record["val"], settings.epochs
    number = f"{record['epoch']:{len(str(last))}}" + ("" if settings.max_minutes else f"/{last}")
    return (
        f"epoch {number}  loss {record['train_loss']:.4f}  val: mse {val['mse']:.4f}, "
        f"hole {val['hole_mse']:.4f}, composite {val['composite_mse']:.5f}  {record['images_per_second']:.0f} images/s"
        f" ({record['data_wait_fraction']:.1%} waiting for data), {clock(seconds_left)} left"
    )


Row = tuple[str, list[str]]
"""A label, and a cell for each of `COLUMNS`."""


def rows(summary: Mapping[str, Any], settings: Settings) -> list[Row]:
    """The result of a run beside the baselines and the article."""
    named = {f"this model, epoch {summary['best_epoch']}": summary["val"], **summary["baselines"]}
    return measured(named) + reported(matching(settings) or [ARTICLE[0]])


def measured(named: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Metrics by whose they are."""
    return [
        (label, [format(values[name], form) for name, (_, form) in COLUMNS.items()]) for label, values in named.items()
    ]


def reported(lines: Sequence[ReportedResult]) -> list[Row]:
    """What there is of the article's figures."""
    table = []
    for line in lines:
        known = {"rgb_argmax_accuracy": line.rgb_argmax_accuracy}
        if line.loss == "mse":
            known["mse"] = line.value
        cells = [format(known[name], form) if name in known else "" for name, (_, form) in COLUMNS.items()]
        table.append((line.label, cells))
    return table


def result_table(heading: str, rows: Sequence[Row], columns: Sequence[str] | None = None) -> Table:
    """Rows as a table for the terminal.

    Args:
        heading: of the labels.
        rows: labels and cells.
        columns: headings of the cells; those of `COLUMNS` if not given.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column(f"\n{heading}")
    for column in columns or [column for column, _ in COLUMNS.values()]:
        table.add_column(column, justify="right")
    for label, cells in rows:
        table.add_row(label, *cells)
    return table
