"""Terminal output: progress with a rate and the time left.

In a terminal the progress is a bar that redraws itself; in a log it is a line every `LOG_EVERY_S` seconds.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LOG_EVERY_S = 15
"""Seconds between two lines of progress in a log."""

# Rich's markup is off, because paths and errors may look like it: [/x], :key:.
out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def clock(seconds: float) -> str:
    """Formats a duration for people: 12.3 s, 4:05 min or 1:02:03 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def count(number: float, what: str) -> str:
    """Formats a number with its noun: 1 trial, 2 trials."""
    digits = str(number) if isinstance(number, int) else f"{number:g}"  # not 1e+06
    return f"{digits} {what}" + ("" if number == 1 else "s")


def speed(rate: float) -> str:
    """Formats a number of images per second, a small one as seconds an image."""
    if 0 < rate < 0.5:
        return f"{1 / rate:.1f} s an image"
    return f"{rate:.{0 if rate >= 10 else 1}f} images/s"


class Meter:
    """Shows the progress of work that is counted in images."""

    def __init__(self, what: str, total: int, limit: float | None = None) -> None:
        """Starts counting.

        Args:
            what: the work, as a participle ("reading").
            total: number of images.
            limit: seconds after which the work ends in any case; None without a limit.
        """
        self.what, self.total, self.limit, self.done = what, total, limit, 0
        self.start = self.said = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
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
        """Counts more images."""
        self.set(self.done + images)

    def set(self, images: int) -> None:
        """Sets the count and updates the bar, or prints a line if one is due in a log."""
        self.done = images
        of = "" if self.limit else f"of {self.total} "
        state = f"{images} {of}images, {speed(self.rate())}, {clock(self.seconds_left())} left"
        by_time = self.total * self.seconds() / self.limit if self.limit else 0
        self.bar.update(self.task, completed=max(images, by_time), state=state)
        if not out.is_terminal and time.monotonic() - self.said > LOG_EVERY_S:
            self.line(f"{self.what}: {state}")

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        out.print(text)
        self.said = time.monotonic()

    def rate(self) -> float:
        """Images per second so far."""
        return self.done / self.seconds()

    def seconds_left(self) -> float:
        """Seconds left at this rate, or until the limit; 0 before the first image."""
        left = (self.total - self.done) / self.rate() if self.done else 0.0
        return left if self.limit is None else max(0.0, min(left, self.limit - self.seconds()))

    def seconds(self) -> float:
        """Seconds so far."""
        return max(time.monotonic() - self.start, 1e-9)

    def summary(self) -> str:
        """Describes the work so far: images, time and rate."""
        return f"{count(self.done, 'image')} in {clock(self.seconds())} ({speed(self.rate())})"
