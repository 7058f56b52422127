"""Plots of errors by epoch, and encoding as PNG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from faceae.training.losses import HOLE_FRAME_WEIGHT

_VALIDATION_LOSS: dict[str, Callable[[Mapping[str, float]], float]] = {
    "mse": lambda val: val["mse"],
    "hole": lambda val: val["hole_mse"] + HOLE_FRAME_WEIGHT * val["mse"],
}
"""The training losses that follow from the validation metrics, as far as they are errors."""


def curves(history: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], loss: str) -> bytes:
    """Plots the loss, and validation errors with the baselines, by epoch; returns a PNG.

    Args:
        history: the records of metrics.jsonl.
        summary: the content of summary.json.
        loss: the name of the training loss.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    losses, hole = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    losses.plot(epochs, [record["train_loss"] for record in history], "o-", ms=3, label="training images")
    if of_validation := _VALIDATION_LOSS.get(loss):
        losses.plot(epochs, [of_validation(record["val"]) for record in history], "o-", ms=3, label="validation images")
    hole.plot(epochs, [record["val"]["hole_mse"] for record in history], "o-", ms=3, label="this model")
    draw_baselines(hole, summary["baselines"])
    inside = "Inside the hole, validation MSE" if summary["task"] == "inpaint" else "Validation MSE"
    for axes, title in ((losses, f"Training loss: {loss}"), (hole, inside)):
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
