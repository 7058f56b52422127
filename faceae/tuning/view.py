"""How a grid is shown: a live table in a terminal, a line per event in a log, and the ranked table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from faceae.config import Train
from faceae.config.article import matching
from faceae.console import clock, count, out, speed
from faceae.reporting.tables import asks_for_holes, columns
from faceae.tuning.trials import Trial, ranked

STYLES = {"running": "bold", "finished": "green", "pruned": "yellow", "failed": "red"}

_LEFT_OUT = {"composite_psnr_db", "composite_ssim"}  # of the metrics in the tables of a run; grid.csv has all of them


def shown(task: str) -> dict[str, tuple[str, str]]:
    """Returns the metrics in the tables of a grid: heading and number format."""
    return {name: column for name, column in columns(task).items() if not asks_for_holes(task) or name not in _LEFT_OUT}


def values(trial: Trial) -> list[str]:
    """Formats a trial's values of the fields that the grid varies."""
    return [f"{value:g}" if isinstance(value, float) else str(value) for value in trial.values.values()]


def label(trial: Trial) -> str:
    """Formats the same values as one string."""
    return " ".join(values(trial))


def headings(trials: Sequence[Trial]) -> list[str]:
    """Returns short names of the fields that the grid varies."""
    return [path.removesuffix(".name").split(".")[-1] for path in trials[0].values]


def article(trial: Trial) -> str:
    """Formats what the article reports for the same settings: a line with loss, accuracy and epochs for each result."""
    lines = matching(trial.folder.settings)
    return "\n".join(f"{line.value:.4f}, {line.rgb_argmax_accuracy:.2%} ({line.epochs})" for line in lines)


class GridView:
    """Shows the trials while they run."""

    def __init__(
        self,
        trials: Sequence[Trial],
        images: int,
        train: Train,
        concurrent: int,
        unknown: Callable[[], int] = lambda: 0,
    ) -> None:
        """Shows nothing yet.

        Args:
            trials: the trials, to which others may be added.
            images: number of training images in an epoch.
            train: how long the trials train that will be added.
            concurrent: number of trials at a time.
            unknown: returns the number of trials that will be added.
        """
        self.trials, self.images, self.train, self.concurrent, self.unknown = trials, images, train, concurrent, unknown
        self.before = sum(trial.epochs - trial.inherited for trial in trials)
        self.start = time.monotonic()
        self.steps: dict[str, float] = {}
        self.stack = ExitStack()
        self.live = Live(console=out, transient=True, refresh_per_second=4, get_renderable=self._table)

    def __enter__(self) -> GridView:
        if out.is_terminal:
            self.stack.enter_context(self.live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def set_step(self, trial: Trial, step: tuple[int, int] | None) -> None:
        """Takes the progress of a running trial: (epoch, images of it trained on)."""
        self.steps[trial.name] = (step[0] - 1 + step[1] / self.images) if step else trial.epochs

    def epoch(self, trial: Trial) -> None:
        """Prints that a trial has finished an epoch, in a log."""
        record = trial.history[-1]
        self._line(
            f"{trial.name:{self._width()}}  epoch {record['epoch']}{_of(trial, '/')}  "
            f"loss {record['train_loss']:.4f}  val: {trial.metric} {record['val'][trial.metric]:.5f}  "
            f"{speed(record['images_per_second'])}; {self.progress()}"
        )

    def note(self, trial: Trial, text: str) -> None:
        """Prints a message about a trial, in a log."""
        self._line(f"{trial.name:{self._width()}}  {text}")

    def end(self, trial: Trial) -> None:
        """Prints that a trial is over, in a log."""
        after = f" after epoch {trial.epochs}" if trial.epochs else ""
        why = f": {trial.reason}" if trial.reason else f", best {trial.metric} {trial.value:.5f}" if trial.best else ""
        self._line(f"{trial.name:{self._width()}}  {trial.state}{after}{why}")

    def progress(self) -> str:
        """Describes how many epochs of all trials are done, and how long the rest takes at most."""
        done = sum(trial.epochs - trial.inherited for trial in self.trials)
        if self.train.max_minutes:
            return f"{done} trial-epochs done, at most {clock(self._training_left(self.train.max_minutes))} to go"
        left = sum(trial.folder.settings.train.epochs - trial.epochs for trial in self.trials if not trial.over)
        left += self.train.epochs * self.unknown()
        text = f"{done} trial-epochs done, at most {left} to go"
        if done > self.before:
            seconds = (time.monotonic() - self.start) / (done - self.before) * left
            text += f" in {clock(seconds)}"
        return text

    def _training_left(self, minutes: float) -> float:
        """Returns how many seconds trials of so many minutes still train at most, without validation and start-up."""
        left = [60 * minutes] * self.unknown()
        for trial in self.trials:
            if not trial.over:
                left.append(60 * (trial.folder.settings.train.max_minutes or 0) - trial.training_seconds)
        # At worst the longest trial begins when all the others are over.
        return (sum(left) + (self.concurrent - 1) * max(left, default=0)) / self.concurrent

    def _line(self, text: str) -> None:
        if not out.is_terminal:
            out.print(text)

    def _width(self) -> int:
        return max(len(trial.name) for trial in self.trials)

    def _table(self) -> Group:
        """Returns the live table: running trials first, and no more than the terminal has room for."""
        if not self.trials:  # of a search that proposes them
            return Group(Text("the first trial starts"))
        table = Table(box=None, pad_edge=False)
        for heading in ("trial", *headings(self.trials), "epoch", f"val {self.trials[0].metric}", "state"):
            table.add_column(heading, min_width=9 if heading == "epoch" else None)
        order = {"running": 0, "pending": 2}
        ordered = sorted(ranked(self.trials), key=lambda trial: order.get(trial.state, 1))
        room = max(3, out.size.height - 4)
        for trial in ordered[:room]:
            epoch = f"{self.steps.get(trial.name, 0):.1f}" if trial.state == "running" else str(trial.epochs)
            state = trial.state + (f": {trial.reason}" if trial.reason else "")
            table.add_row(
                trial.name.split("-")[0],
                *values(trial),
                f"{epoch}{_of(trial, ' of ')}",
                f"{trial.value:.5f}" if trial.best else "",
                Text(state, style=STYLES.get(trial.state, "dim"), no_wrap=True, overflow="ellipsis"),
            )
        more = f"and {len(ordered) - room} more; " if len(ordered) > room else ""
        return Group(table, Text(f"{more}{self.progress()}, {clock(time.monotonic() - self.start)} so far"))


def _of(trial: Trial, link: str) -> str:
    """Formats the number of a trial's epochs, unless the time decides how many it trains."""
    train = trial.folder.settings.train
    return "" if train.max_minutes else f"{link}{train.epochs}"


def result_table(trials: Sequence[Trial], references: Mapping[str, Mapping[str, float]], images: int) -> Table:
    """Returns a table of the ranked trials, what they are compared with (`faceae.reporting.tables.references`) and the
    article's results, for the terminal."""
    table = Table(box=None, pad_edge=False)
    table.add_column(f"\n{images} validation images", no_wrap=True)
    table.add_column("best\nepoch", justify="right")
    task = trials[0].folder.settings.task_name
    for heading, _ in shown(task).values():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("\nstate", no_wrap=True)
    wide = out.width >= 100 and any(map(article, trials))
    if wide:
        table.add_column("the article's loss,\naccuracy (epochs)", no_wrap=True)
    for rank, trial in enumerate(ranked(trials), 1):
        best = str(trial.best["epoch"]) if trial.best else ""
        state = Text(trial.state, style=STYLES.get(trial.state, ""))
        reached = cells(trial.best, task)
        table.add_row(f"{rank}. {label(trial)}", best, *reached, state, *([article(trial)] if wide else []))
    for name, measured in references.items():
        table.add_row(name, "", *cells({"val": measured}, task))
    return table


def cells(record: Mapping[str, Any] | None, task: str) -> list[str]:
    """Formats the metrics of a record's `val` that are `shown`; without a record, the cells are empty."""
    return [format(record["val"][name], form) if record else "" for name, (_, form) in shown(task).items()]


def costs(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Describes what the grid cost, as pairs of a name and a sentence."""
    epochs, trials, start_up = cost["trial_epochs"], cost["trials_started"], cost["start_up_seconds"]
    decoded = f"{clock(cost['decode_seconds'])} for {cost['decoded_images']} images, once for {count(trials, 'trial')}"
    if cost["sessions"] > 1:
        decoded = f"{clock(cost['decode_seconds'])}, once in each of {cost['sessions']} sessions"
    if cost["full_grid_trial_epochs"] is None:
        saved = f"{epochs} trial-epochs trained; {cost['trials_pruned']} of {count(trials, 'trial')} stopped early"
    else:
        saved = f"{cost['full_grid_trial_epochs']} trial-epochs in full, {epochs} trained"
    if cost["saved_trial_epochs"]:
        share = cost["saved_trial_epochs"] / cost["full_grid_trial_epochs"]
        saved += f"; stopping early saved {cost['saved_trial_epochs']} ({share:.0%})"
    return [
        ("grid", saved),
        ("decoding", decoded),
        ("start-up", f"{clock(start_up)} over all trials, {clock(start_up / max(1, trials))} each"),
        ("training", f"{clock(cost['training_seconds'])} over all trials"),
        ("in all", f"{clock(cost['wall_seconds'])}, {count(cost['concurrent'], 'trial')} at a time"),
    ]
