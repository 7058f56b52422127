"""The report of an evaluation: one HTML page with tables, a histogram, and the worst and the best images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from faceae.config import Mask, Settings
from faceae.config.article import ARTICLE, comparable
from faceae.console import out
from faceae.data.batch import Batch
from faceae.data.cache import decode, take
from faceae.data.sources import Entry
from faceae.data.split import sample
from faceae.evaluation.aggregate import GroupMeans
from faceae.evaluation.scoring import Scoring
from faceae.reporting import plots, tables
from faceae.reporting.contact_sheet import FACES, sheet
from faceae.reporting.pages import write_page
from faceae.reporting.tables import Row

GROUP_COLUMNS = {
    "hole_mse": ("MSE\nhole", ".4f"),
    "composite_mse": ("MSE\ncomposite", ".5f"),
    "composite_ssim": ("SSIM\ncomposite", ".4f"),
}
"""The metrics in the tables by kind and by size of the hole: heading and number format."""


def print_result(summary: Mapping[str, Any]) -> None:
    """Prints the result tables."""
    out.print()
    out.print(tables.result_table(f"{summary['counts']['val']} images", rows(summary)))
    for heading, divided in (("hole", summary["by_kind"]), ("hole, of the frame", summary["by_hole_size"])):
        if len(divided) > 1:
            out.print()
            out.print(tables.result_table(heading, group_rows(divided), group_headings(divided)))
    if "telea" not in summary["baselines"]:
        out.print("(for the baseline telea install faceae[telea])")


def rows(summary: Mapping[str, Any]) -> list[Row]:
    """Returns the rows of the result table: the model, the baselines, and the article if it measured the same."""
    known = tables.reported(ARTICLE[:1]) if comparable(summary["image_size"], Mask(**summary["mask"])) else []
    return tables.measured({"this model": summary["val"], **summary["baselines"]}) + known


def group_headings(divided: Mapping[str, GroupMeans]) -> list[str]:
    """Returns the headings of the cells of `group_rows`."""
    baselines = next(iter(divided.values()))["baselines"]
    return ["images", *(heading for heading, _ in GROUP_COLUMNS.values()), *(f"MSE hole\n{name}" for name in baselines)]


def group_rows(divided: Mapping[str, GroupMeans]) -> list[Row]:
    """Returns a row for each group: the model's metrics, and each baseline's error inside the hole."""
    _, form = GROUP_COLUMNS["hole_mse"]
    return [
        (
            label,
            [str(group["images"])]
            + [format(group["val"][name], form) for name, (_, form) in GROUP_COLUMNS.items()]
            + [format(values["hole_mse"], form) for values in group["baselines"].values()],
        )
        for label, group in divided.items()
    ]


def write(
    uri: str,
    trained: Settings,
    summary: Mapping[str, Any],
    table: pa.Table,
    entries: Sequence[Entry],
    scoring: Scoring,
) -> None:
    """Writes index.html, scores.png and the contact sheets worst.png, best.png and sample.png.

    Args:
        uri: the report's folder.
        trained: the settings that the model was trained with.
        summary: the content of summary.json.
        table: the content of images.parquet.
        entries: the images; those in the contact sheets are read again.
        scoring: the model and the masks.
    """
    ranked = table.select(["image_id", "kind", "hole_mse"]).sort_by([("hole_mse", "descending")]).to_pylist()
    by_id = {row["image_id"]: row for row in ranked}
    shown = {
        "sample": [by_id[entry.image_id] for entry in sample(entries) if entry.image_id in by_id][:FACES],
        "worst": ranked[:FACES],
        "best": ranked[: -FACES - 1 : -1],
    }
    write_page(
        uri,
        "evaluate.html",
        {"scores": histogram(table["score"], summary["score"]["metric"]), **_sheets(shown, entries, scoring)},
        settings=trained,
        summary=summary,
        mask=scoring.mask_generator.mask,
        headings=tables.in_one_line(heading for heading, _ in tables.COLUMNS.values()),
        rows=rows(summary),
        divided={
            title: (tables.in_one_line(group_headings(divided)), group_rows(divided))
            for title, divided in (("kind of hole", summary["by_kind"]), ("size of the hole", summary["by_hole_size"]))
        },
        shown=shown,
    )


def histogram(scores: pa.ChunkedArray, metric: str) -> bytes:
    """Plots how many images have which score; returns a PNG."""
    values = scores.to_numpy()
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.hist(values, bins=min(60, max(8, len(values) // 10)), color="#4878a8")
    axes.set_xlabel(f"score: {metric}")
    axes.set_ylabel("images")
    axes.grid(alpha=0.3)
    return plots.savefig(figure)


def _sheets(
    shown: Mapping[str, Sequence[Mapping[str, Any]]], entries: Sequence[Entry], scoring: Scoring
) -> dict[str, bytes]:
    """Draws contact sheets of images, which are read and restored again, since their pixels were not kept."""
    ids = {row["image_id"] for rows in shown.values() for row in rows}
    mask_generator = scoring.mask_generator
    blocks, _ = decode(
        [entry for entry in entries if entry.image_id in ids], mask_generator.image_size, lambda images: None
    )
    names, pixels = take(blocks.refs, blocks.positions())
    images = dict(zip(names, pixels.reshape(-1, mask_generator.image_size, mask_generator.image_size, 3), strict=True))
    sheets = {}
    for name, rows in shown.items():
        present = [row["image_id"] for row in rows if row["image_id"] in images]
        batch = Batch(
            np.stack([images[name] for name in present]), mask_generator.draw_validation(present), len(present)
        )
        sheets[name] = plots.png(sheet(scoring.network, batch))
    return sheets
