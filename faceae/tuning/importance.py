"""Which of the settings that a grid varies matter: shares of variance, and parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from faceae.config.space import are_numbers
from faceae.reporting import plots
from faceae.tuning import view
from faceae.tuning.trials import Trial, ranked

_GROUPS = 3
"""A setting with more numbers than this is divided into so many groups of about as many trials."""


def compared(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trials with a result, best first."""
    return [trial for trial in ranked(trials) if trial.state != "failed" and trial.best and trial.value > 0]


def shares(trials: Sequence[Trial]) -> dict[str, float]:
    """Returns for each setting the share of the variance of the error's logarithm that lies between its values.

    That is the correlation ratio of a one-way analysis of variance, in [0, 1] (Fisher, 1925). With few trials it is
    too high, and it does not see what two settings do together.

    Args:
        trials: at least three that were `compared`.
    """
    errors = np.log([trial.value for trial in trials])
    total = ((errors - errors.mean()) ** 2).sum()
    if not total:
        return {}
    found = {}
    for path in trials[0].values:
        groups = _groups([trial.values[path] for trial in trials])
        if 1 < len(set(groups)) < len(trials):
            means = np.array([errors[groups == group].mean() for group in groups])
            found[path] = float(((means - errors.mean()) ** 2).sum() / total)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _groups(values: Sequence[Any]) -> NDArray[np.int64]:
    """Numbers the groups of equal values; of many numbers, groups of about equal size."""
    distinct = list(dict.fromkeys(values))
    if are_numbers(values) and len(distinct) > _GROUPS:
        order = np.argsort(np.argsort(np.array(values, float), kind="stable"))
        return order * _GROUPS // len(values)
    return np.array([distinct.index(value) for value in values])


def parallel(trials: Sequence[Trial]) -> bytes:
    """Plots a line for each trial through its values and its error; returns a PNG."""
    axes_of = [*zip(view.headings(trials), trials[0].values, strict=True), (trials[0].metric, None)]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    places, ticks = zip(*(_place(trials, path) for _, path in axes_of), strict=True)
    colours = colormaps["viridis"].resampled(len(trials))
    for i in reversed(range(len(trials))):  # the best on top
        line = [column[i] for column in places]
        axes.plot(range(len(line)), line, "-", color=colours(i), lw=1 + 1.5 * (i == 0), alpha=0.9)
    for x, marks in enumerate(ticks):
        axes.axvline(x, color="0.7", lw=0.8, zorder=0)
        for y, text in marks:
            axes.annotate(text, (x, y), (4, 0), textcoords="offset points", fontsize="small", va="center")
    axes.set_xticks(range(len(axes_of)), [name for name, _ in axes_of])
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(axes_of) - 0.6)
    for side in axes.spines.values():
        side.set_visible(False)
    return plots.savefig(figure)


def _place(trials: Sequence[Trial], path: str | None) -> tuple[list[float], list[tuple[float, str]]]:
    """Returns where on an axis from 0 to 1 each trial is, and the marks of the axis.

    Args:
        trials: the trials.
        path: the setting; None for the error, with the best at the top.
    """
    values = [trial.value if path is None else trial.values[path] for trial in trials]
    if not are_numbers(values):
        distinct = list(dict.fromkeys(values))
        step = 1 / max(1, len(distinct) - 1)
        words = [(i * step, str(value)) for i, value in enumerate(distinct)]
        return [distinct.index(value) * step for value in values], words
    low, high = min(values), max(values)
    log = low > 0 and high / low > 10
    scaled = np.log(values) if log else np.array(values, float)
    span = (scaled.max() - scaled.min()) or 1.0
    places = (scaled - scaled.min()) / span
    if path is None:
        places = 1 - places
    shown = dict(zip(places.tolist(), values, strict=True))
    marks = shown if len(shown) <= 6 else {place: shown[place] for place in (min(shown), max(shown))}
    return places.tolist(), [(place, f"{value:.3g}") for place, value in marks.items()]
