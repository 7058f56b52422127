"""The report of a run: curves, pictures and one HTML page that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from faceae import config, console, metrics, models, storage
from faceae.config import JobSettings, Mask, Settings
from faceae.data.batch import Batch
from faceae.data.cache import Blocks
from faceae.data.loader import validation_batches
from faceae.training import engine

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
    write_page(
        uri,
        "report.html",
        {"curves": curves(history, summary), "faces": png(sheet)},
        settings=settings,
        summary=summary,
        headings=[heading.replace("\n", ", ") for heading, _ in console.COLUMNS.values()],
        rows=console.rows(summary, settings),
        history=history,
    )


def write_page(
    uri: str,
    template: str,
    pictures: Mapping[str, bytes],
    settings: JobSettings,
    **content: Any,  # noqa: ANN401
) -> None:
    """Writes a page that needs no other file, and its pictures beside it.

    Args:
        uri: the report's folder.
        template: of the package; has the pictures by their name in `pictures`.
        pictures: PNG files.
        settings: shown in full.
        **content: for the template.
    """
    for name, picture in pictures.items():
        storage.write(storage.join(uri, f"{name}.png"), picture)
    page = jinja2.Environment(
        loader=jinja2.PackageLoader("faceae.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template(template)
    html = page.render(
        settings=settings,
        flat=config.flat(config.to_dict(settings)),
        clock=console.clock,
        hidden=hidden,
        pictures={name: base64.b64encode(picture).decode() for name, picture in pictures.items()},
        **content,
    )
    storage.write(storage.join(uri, "index.html"), html.encode())


def hidden(mask: Mask) -> str:
    """What is hidden, in words that follow "faces with": "a 28×28 hole", "a missing half or brush strokes"."""
    least, most = mask.sizes
    pixels = f"{most}" if least == most else f"{least} to {most}"
    box = f"{most}×{most}" if least == most else f"{pixels} pixels square"
    words = {
        "box": f"{mask.count} holes of {box}" if mask.count > 1 else f"a hole of {box}",
        "strokes": "brush strokes over them",
        "half": "a missing half",
        "border": f"a missing border of {pixels} pixels",
        "image": "holes of given shapes",
    }
    *others, last = [words[kind] for kind in dict.fromkeys(mask.kind)]
    return f"{', '.join(others)} or {last}" if others else last


def curves(history: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
    """The losses and the errors of each epoch beside the baselines, as a PNG."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    frame, hole = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    frame.plot(epochs, [record["train_loss"] for record in history], "o-", ms=3, label="training loss")
    frame.plot(epochs, [record["val"]["mse"] for record in history], "o-", ms=3, label="validation MSE")
    hole.plot(epochs, [record["val"]["hole_mse"] for record in history], "o-", ms=3, label="this model")
    draw_baselines(hole, summary["baselines"])
    for axes, title in ((frame, "Full frame"), (hole, "Inside the hole, validation MSE")):
        dress(axes, title)
        axes.legend()
    return savefig(figure)


def draw_baselines(axes: Axes, baselines: Mapping[str, Mapping[str, float]]) -> None:
    """Draws the error of each inside the hole as a line across."""
    for grey, (name, values) in zip(("0.2", "0.5", "0.7"), baselines.items(), strict=False):
        axes.axhline(values["hole_mse"], ls="--", lw=1, color=grey, label=name)


def dress(axes: Axes, title: str) -> None:
    """Makes axes those of an error by epoch."""
    axes.set_title(title)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")


def savefig(figure: Figure) -> bytes:
    """A figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def contact_sheet(model_uri: str, val: Blocks, image_size: int) -> Image.Image:
    """The first validation images as `sheet` shows them, restored by a saved model."""
    return sheet(models.load(model_uri), next(validation_batches(val, image_size, FACES)))


@torch.inference_mode()
def sheet(network: nn.Module, batch: Batch) -> Image.Image:
    """Rows of pictures in the article's manner: original, given, reconstructed, composited; a column an image.

    Args:
        network: on the CPU, in evaluation mode.
        batch: what is shown.
    """
    data = engine.to_device(batch, torch.device("cpu"))
    output = network(data.given, data.mask)
    pasted = metrics.composite(output, data.original, data.mask)
    rows = [_side_by_side(row) for row in (data.original, data.given, output, pasted)]
    height, width = rows[0].shape[:2]
    font = ImageFont.load_default(size=max(10, height // 8))
    margin = 8 + max(int(font.getlength(name)) for name in _ROWS)
    whole = Image.new("RGB", (margin + width, len(rows) * height), "white")
    pen = ImageDraw.Draw(whole)
    for i, (name, row) in enumerate(zip(_ROWS, rows, strict=True)):
        pen.text((4, i * height + height // 2), name, fill="black", font=font, anchor="lm")
        whole.paste(Image.fromarray(row), (margin, i * height))
    return whole


def _side_by_side(images: torch.Tensor) -> NDArray[np.uint8]:
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return np.concatenate(list(pixels), axis=1)


def png(image: Image.Image) -> bytes:
    """An image as a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
