"""The report of an evaluation: one HTML page with tables, a histogram, and the worst and the best images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from faceae import storage
from faceae.config.jobs import EvaluateSettings
from faceae.console import out
from faceae.data.cache import decode, take
from faceae.data.sources import Entry
from faceae.data.split import sample
from faceae.data.validation import stack_batch
from faceae.evaluation.aggregate import GroupMeans
from faceae.evaluation.identity import SAME
from faceae.evaluation.pictures import PictureScoring
from faceae.evaluation.scoring import Scoring, drawn
from faceae.reporting import plots, tables
from faceae.reporting.comparison import print_comparison
from faceae.reporting.contact_sheet import FACES, sheet
from faceae.reporting.pages import write_page
from faceae.reporting.picture_sheet import draw_pictures
from faceae.reporting.tables import Row

WEAK = ("black", "mean")
"""The baselines that the tables by kind, size and hole leave out: any other is better."""

BEST = "best"
"""Stands for the best baseline in the heading of a column."""

TABLE = "table.md"
"""The table by hole in Markdown, of an evaluation at the pictures' own size."""


def print_result(summary: Mapping[str, Any]) -> None:
    """Prints the result tables."""
    out.print()
    columns = tables.headings(summary["task"])
    out.print(tables.result_table(f"{summary['counts']['val']} images", rows(summary), columns))
    for heading, divided in _divisions(summary):
        out.print()
        out.print(tables.result_table(heading, group_rows(divided, every=False), group_headings(divided, every=False)))
    print_comparison(summary)
    for words in filter(None, (known_pixels(summary), identity(summary))):
        out.print(words)


def _divisions(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, GroupMeans]]]:
    """Returns the parts of a summary that divide its rows and are shown, with their headings."""
    if "by_hole" in summary:
        return [("hole", summary["by_hole"])]
    divided = [("kind of hole", summary["by_kind"]), ("hole, of the frame", summary["by_hole_size"])]
    return [(heading, groups) for heading, groups in divided if len(groups) > 1]


def known_pixels(summary: Mapping[str, Any]) -> str | None:
    """Says whether another program changed what was known; None for a model, which cannot."""
    if (known := summary.get("known_pixels")) is None:
        return None
    if not known["changed"]:
        return "Known pixels are unchanged in all restored pictures."
    return (
        f"Known pixels differ in {known['changed']} of {summary['masks']['rows']} restored pictures, by up to "
        f"{known['max_change']} of 255 and by {known['mean_change']:.2g} on average over all; that is not scored."
    )


def identity(summary: Mapping[str, Any]) -> str | None:
    """Says how many restored faces are taken for the same person; None if that was not measured."""
    if (measured := summary.get("identity")) is None:
        return None
    if not measured["faces"]:
        return f"No face was found in any of {measured['of']} originals, so none was compared."
    missing = measured["of"] - measured["faces"]
    return (
        f"The person stays the person in {measured['same_share']:.1%} of {measured['faces']} restored faces: dlib's "
        f"descriptors are less than {SAME} apart, on average {measured['mean']:.2f}."
        + (f" No face was found in {missing} of the originals." if missing else "")
    )


def rows(summary: Mapping[str, Any]) -> list[Row]:
    """Returns the rows of the result table: the model and the baselines."""
    ours = "these pictures" if "known_pixels" in summary else "this model"
    named = {ours: summary["val"], **tables.references(summary)}
    return tables.measured(named, summary["task"])


def group_headings(divided: Mapping[str, GroupMeans], every: bool) -> list[str]:
    """Returns the headings of the cells of `group_rows`."""
    first = next(iter(divided.values()))
    steps = [f"edge step\n{of}" for of in ("original", "model", "best")] if "original" in first else []
    return [
        "images",
        "SSIM\ncomposite",
        *(f"MSE hole\n{name}" for name in ["model", *_listed(divided, every)]),
        "best\nbaseline",
        "model's\nshare",
        "worse\non",
        *steps,
    ]


def _listed(divided: Mapping[str, GroupMeans], every: bool) -> list[str]:
    """Returns the baselines that have a column of their own; `BEST` is that of each group."""
    measured = max((group["baselines"] for group in divided.values()), key=len)
    return [name for name in measured if name not in WEAK] if every else [BEST]


def group_rows(divided: Mapping[str, GroupMeans], every: bool) -> list[Row]:
    """Returns a row for each group: the model's metrics, errors of the baselines, and how they compare.

    Args:
        divided: the groups.
        every: whether all baselines but the `WEAK` have a column, which a terminal has no room for, or only the best.
    """
    names = _listed(divided, every)
    return [(label, _cells(group, names)) for label, group in divided.items()]


def _cells(group: GroupMeans, names: Sequence[str]) -> list[str]:
    val, best = group["val"], group["best_baseline"]
    about = [str(group["images"]), f"{val['composite_ssim']:.4f}", f"{val['hole_mse']:.5f}"]
    if best is None:  # the sample on which the baselines were measured has none of these images
        return about + [""] * (len(names) + (6 if "original" in group else 3))
    baselines = group["baselines"] | {BEST: group["baselines"][best]}
    steps = [group["original"], val, baselines[best]] if "original" in group else []
    return [
        *about,
        *(f"{baselines[name]['hole_mse']:.5f}" for name in names),
        best,
        f"{group['of_best']:.2f}",
        f"{group['worse_share']:.0%}",
        *(f"{step['edge_step']:.1f}" for step in steps),
    ]


def markdown(heading: str, divided: Mapping[str, GroupMeans]) -> str:
    """Returns the table of `group_rows` in Markdown."""
    headings = tables.in_one_line([heading, *group_headings(divided, every=True)])
    lines = [headings, ["---"] * len(headings), *([label, *cells] for label, cells in group_rows(divided, every=True))]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(
    uri: str,
    settings: EvaluateSettings,
    summary: Mapping[str, Any],
    subject: str,
    damaged: str,
    table: pa.Table,
    entries: Sequence[Entry],
    scoring: Scoring | PictureScoring,
) -> None:
    """Writes index.html, scores.png, the contact sheets worst.png, best.png and sample.png, and perhaps `TABLE`.

    Args:
        uri: the report's folder.
        settings: the evaluation's settings.
        summary: the content of summary.json.
        subject: what restores the images, in words.
        damaged: what is done to the faces, in words that follow "faces".
        table: the content of images.parquet.
        entries: the images; those in the contact sheets are read again.
        scoring: the model and the masks.
    """
    ranked = table.select(["image_id", "kind", "size", "hole_mse"]).sort_by([("hole_mse", "descending")]).to_pylist()
    shown = {"sample": _sample(ranked, entries), "worst": ranked[:FACES], "best": ranked[: -FACES - 1 : -1]}
    if isinstance(scoring, PictureScoring):
        sheets = draw_pictures(shown, entries, scoring, summary["best_baseline"])
    else:
        sheets = _sheets(shown, entries, scoring)
    if "by_hole" in summary:
        storage.write(storage.join(uri, TABLE), markdown("hole", summary["by_hole"]).encode())
    write_page(
        uri,
        "evaluate.html",
        {"scores": histogram(table["score"], summary["score"]["metric"]), **sheets},
        settings=settings,
        summary=summary,
        subject=subject,
        damaged=damaged,
        known_pixels=known_pixels(summary),
        identity=identity(summary),
        headings=tables.in_one_line(tables.headings(summary["task"])),
        rows=rows(summary),
        divided={
            heading: (tables.in_one_line(group_headings(divided, every=True)), group_rows(divided, every=True))
            for heading, divided in _divisions(summary)
        },
        shown=shown,
    )


def _sample(ranked: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> list[Mapping[str, Any]]:
    """Returns rows of a sample of images, each with another of the holes in turn."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(ranked, key=lambda row: (row["kind"], row["size"] or 0)):
        by_id.setdefault(row["image_id"], []).append(row)
    chosen = [by_id[entry.image_id] for entry in sample(entries) if entry.image_id in by_id][:FACES]
    return [rows[number % len(rows)] for number, rows in enumerate(chosen)]


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
    size = scoring.task.image_size
    blocks, _ = decode([entry for entry in entries if entry.image_id in ids], size, lambda images: None)
    names, pixels = take(blocks.refs, blocks.positions())
    images = dict(zip(names, pixels.reshape(-1, size, size, 3), strict=True))
    sheets = {}
    for name, rows in shown.items():
        present = [row["image_id"] for row in rows if row["image_id"] in images]
        masks = [mask for (mask,) in scoring.holes.rows([(name, size, size) for name in present])]
        whole = np.stack([images[name] for name in present])
        batch = stack_batch(whole, drawn(scoring.task, masks), size, scoring.task.damage)
        sheets[name] = plots.png(sheet(scoring.network, batch))
    return sheets
