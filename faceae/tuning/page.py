"""The report of a grid: one HTML page with the ranked trials, their curves, and faces restored by the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from faceae.config import Settings
from faceae.reporting import plots
from faceae.reporting.pages import write_page
from faceae.reporting.tables import in_one_line, references
from faceae.tuning import importance, view
from faceae.tuning.trials import Trial, ranked

ENDS = {"finished": "o", "pruned": "x", "failed": "X", "stopped": "|", "running": "|", "paused": "|"}
"""The marker at the end of a trial's curve, by the trial's state."""

FEWEST = 3
"""Trials with a result from which on the report shows what mattered."""


def write(
    uri: str,
    settings: Settings,
    content: Mapping[str, Any],
    trials: Sequence[Trial],
    summary: Mapping[str, Any],
    sheets: Mapping[str, Image.Image],
    command: str,
) -> None:
    """Writes index.html, curves.png, faces.png and holes.png, and of three or more trials parallel.png.

    Args:
        uri: the report's folder.
        settings: the grid's settings.
        content: the content of grid.json.
        trials: the grid's trials.
        summary: the summary of the best trial, as in summary.json.
        sheets: the contact sheets of the best model, see `faceae.reporting.contact_sheet`.
        command: the command that trains the best settings for longer.
    """
    rows = [
        {
            "label": view.label(trial),
            "trial": trial,
            "cells": view.cells(trial.best, settings.task_name),
            "article": view.article(trial),
        }
        for trial in ranked(trials)
    ]
    task = settings.task_name
    compared = importance.compared(trials)
    several = len(compared) >= FEWEST
    pictures = {"curves": curves(trials, summary["baselines"])}
    if several:
        pictures["parallel"] = importance.parallel(compared)
    baselines = [(name, view.cells({"val": values}, task)) for name, values in references(summary).items()]
    write_page(
        uri,
        "grid.html",
        pictures | {name: plots.png(sheet) for name, sheet in sheets.items()},
        settings=settings,
        grid=content,
        columns=in_one_line(heading for heading, _ in view.shown(settings.task_name).values()),
        summary=summary,
        varied=" × ".join(view.headings(trials)),
        rows=rows,
        reported=any(row["article"] for row in rows),
        baselines=baselines,
        importance=list(importance.shares(compared).items()) if several else [],
        costs=view.costs(content["cost"]),
        command=command,
    )


def curves(trials: Sequence[Trial], baselines: Mapping[str, Mapping[str, float]]) -> bytes:
    """Plots the validation error of every trial by epoch, over the frame and inside the hole; returns a PNG."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = zip(figure.subplots(1, 2), ("mse", "hole_mse"), ("Full frame", "Inside the hole"), strict=True)
    shown = [trial for trial in ranked(trials) if trial.history]
    colours = colormaps["tab10" if len(shown) <= 10 else "turbo"].resampled(max(10, len(shown)))
    for axes, metric, title in panels:
        for i, trial in enumerate(shown):
            epochs = [record["epoch"] for record in trial.history]
            values = [record["val"][metric] for record in trial.history]
            axes.plot(epochs, values, ".-", color=colours(i), label=view.label(trial))
            axes.plot(epochs[-1:], values[-1:], ENDS[trial.state], color=colours(i), ms=8)
        if metric == "hole_mse":
            plots.draw_baselines(axes, baselines)
        plots.label_axes(axes, f"{title}, validation MSE")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    return plots.savefig(figure)
