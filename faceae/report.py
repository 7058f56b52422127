"""The report of a run: curves, pictures and one HTML page that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from faceae import config, console, engine, metrics, storage
from faceae.config import Settings
from faceae.data.batch import Batch

FACES = 8
"""Pictures in a contact sheet."""

_ROWS = ("original", "given", "reconstructed", "composited")


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
        settings: of the run.
        summary: as in summary.json.
        history: the lines of metrics.jsonl.
        sheet: of `contact_sheet`.
    """
    pictures = {"curves.png": curves(history, summary), "faces.png": _png(sheet)}
    for name, content in pictures.items():
        storage.write(storage.join(uri, name), content)
    page = jinja2.Environment(
        loader=jinja2.PackageLoader("faceae", ""), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("report.html")
    html = page.render(
        summary=summary,
        settings={key: value for key, value in config.to_dict(settings).items() if isinstance(value, dict)},
        headings=[heading.replace("\n", ", ") for heading, _ in console.COLUMNS.values()],
        rows=console.rows(summary, settings),
        history=history,
        clock=console.clock,
        **{name.removesuffix(".png"): base64.b64encode(content).decode() for name, content in pictures.items()},
    )
    storage.write(storage.join(uri, "index.html"), html.encode())


def curves(history: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
    """The losses and the errors of each epoch beside the baselines, as a PNG."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    frame, hole = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    frame.plot(epochs, [record["train_loss"] for record in history], "o-", ms=3, label="training loss")
    frame.plot(epochs, [record["val"]["mse"] for record in history], "o-", ms=3, label="validation MSE")
    frame.set_title("Full frame")
    hole.plot(epochs, [record["val"]["hole_mse"] for record in history], "o-", ms=3, label="this model")
    for colour, (name, values) in zip(("0.2", "0.5", "0.7"), summary["baselines"].items(), strict=False):
        hole.axhline(values["hole_mse"], ls="--", lw=1, color=colour, label=name)
    hole.set_title("Inside the hole, validation MSE")
    for axes in (frame, hole):
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


@torch.inference_mode()
def contact_sheet(network: nn.Module, batch: Batch) -> Image.Image:
    """Rows of pictures in the article's manner: original, given, reconstructed, composited; a column an image."""
    views = engine.to_device(batch, torch.device("cpu"))
    output = network.eval()(views.given, views.mask)
    pasted = metrics.composite(output, views.original, views.mask)
    rows = [_side_by_side(row) for row in (views.original, views.given, output, pasted)]
    height, width = rows[0].shape[:2]
    font = ImageFont.load_default(size=max(10, height // 8))
    margin = 8 + max(int(font.getlength(name)) for name in _ROWS)
    sheet = Image.new("RGB", (margin + width, len(rows) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (name, row) in enumerate(zip(_ROWS, rows, strict=True)):
        pen.text((4, i * height + height // 2), name, fill="black", font=font, anchor="lm")
        sheet.paste(Image.fromarray(row), (margin, i * height))
    return sheet


def _side_by_side(images: torch.Tensor) -> NDArray[np.uint8]:
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return np.concatenate(list(pixels), axis=1)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
