"""The report of `faceae evaluate --anomaly`: one HTML page with a histogram and the images at both ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from faceae.config.jobs import EvaluateSettings
from faceae.console import out
from faceae.data.cache import decode, take
from faceae.data.sources import Entry
from faceae.evaluation import anomaly
from faceae.models import Restorer
from faceae.reporting import plots, tables
from faceae.reporting.contact_sheet import FACES, as_pixels, draw_rows
from faceae.reporting.evaluation import histogram
from faceae.reporting.pages import write_page

Ranked = list[dict[str, Any]]
"""Images by their score, with the keys image_id and score."""

_HOT = np.array((255, 40, 0))  # the colour of what does not belong there


def highest(table: pa.Table) -> Ranked:
    """Returns the images with the highest scores, as many as a sheet shows."""
    return _ranked(table)[:FACES]


def print_result(summary: Mapping[str, Any]) -> None:
    """Prints the images with the highest scores."""
    rows = [(row["image_id"], [f"{row['score']:.3f}"]) for row in summary["highest"]]
    out.print()
    out.print(tables.result_table("most anomalous", rows, ["score"]))
    half, most = (summary["score"]["percentiles"][number] for number in ("50", "95"))
    out.print(f"of {summary['counts']['val']} images, half have at most {half:.3f}, 95 % at most {most:.3f}")


def write(
    uri: str,
    settings: EvaluateSettings,
    summary: Mapping[str, Any],
    table: pa.Table,
    entries: Sequence[Entry],
    model: Restorer,
) -> None:
    """Writes index.html, scores.png, and the contact sheets most.png and least.png.

    Args:
        uri: the report's folder.
        settings: the evaluation's settings.
        summary: the content of summary.json.
        table: the content of images.parquet.
        entries: the images; those in the contact sheets are read again.
        model: the model.
    """
    ranked = _ranked(table)
    shown = {"most": ranked[:FACES], "least": ranked[: -FACES - 1 : -1]}
    ids = {row["image_id"] for rows in shown.values() for row in rows}
    size = model.settings.data.image_size
    blocks, _ = decode([entry for entry in entries if entry.image_id in ids], size, lambda images: None)
    names, pixels = take(blocks.refs, blocks.positions())
    images = dict(zip(names, pixels.reshape(-1, size, size, 3), strict=True))
    sheets = {name: _sheet(model, np.stack([images[row["image_id"]] for row in rows])) for name, rows in shown.items()}
    pictures = {"scores": histogram(table["score"], "anomaly"), **{name: plots.png(s) for name, s in sheets.items()}}
    write_page(uri, "anomalies.html", pictures, settings=settings, summary=summary, shown=shown)


def _ranked(table: pa.Table) -> Ranked:
    ranked: Ranked = table.select(["image_id", "score"]).sort_by([("score", "descending")]).to_pylist()
    return ranked


@torch.inference_mode()
def _sheet(model: Restorer, pixels: NDArray[np.uint8]) -> Image.Image:
    """Draws rows: the image, what does not belong there in red, and the image as the model repairs it."""
    given = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    repaired = model(given, torch.ones_like(given[:, :1])).clamp(0, 1)
    heat = anomaly.heat(model, given)[:, 0, :, :, None].numpy()
    grey = pixels.mean(3, keepdims=True) / 2 + 64
    found = (grey * (1 - heat) + _HOT * heat).round().astype(np.uint8)
    return draw_rows({"given": pixels, "found": found, "repaired": as_pixels(repaired)})
