"""Plots of errors by epoch, and encoding as PNG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image


def curves(history: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
    """Plots losses and validation errors by epoch with the baselines; returns a PNG."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    frame, hole = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    frame.plot(epochs, [record["train_loss"] for record in history], "o-", ms=3, label="training loss")
    frame.plot(epochs, [record["val"]["mse"] for record in history], "o-", ms=3, label="validation MSE")
    hole.plot(epochs, [record["val"]["hole_mse"] for record in history], "o-", ms=3, label="this model")
    draw_baselines(hole, summary["baselines"])
    inside = "Inside the hole, validation MSE" if summary["task"] == "inpaint" else "Validation MSE"
    for axes, title in ((frame, "Full frame"), (hole, inside)):
        label_axes(axes, title)
        axes.legend()
    return savefig(figure)


def draw_baselines(axes: Axes, baselines: Mapping[str, Mapping[str, float]]) -> None:
    """Draws each baseline's error inside the hole as a horizontal line."""
    dashes = itertools.cycle(("--", ":", "-."))
    for grey, (name, values) in zip(np.linspace(0.2, 0.7, len(baselines)), baselines.items(), strict=True):
        axes.axhline(values["hole_mse"], ls=next(dashes), lw=1, color=str(grey), label=name)


def label_axes(axes: Axes, title: str) -> None:
    """Sets the title of axes, and their scales for an error by epoch."""
    axes.set_title(title)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")


def savefig(figure: Figure) -> bytes:
    """Renders a figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    """Encodes an image as a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
