"""The page of nearest pictures that `faceae embed --neighbours` leaves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from faceae.config.embed import EmbedSettings
from faceae.data.reader import fetch, to_pixels
from faceae.data.sources import Entry
from faceae.reporting import plots
from faceae.reporting.contact_sheet import FACES, draw_rows
from faceae.reporting.pages import write_page
from faceae.run_folder import RunFolder

_SHOWN = 5
"""Neighbours of a picture in the contact sheet."""


def write(
    folder: RunFolder[EmbedSettings], table: pa.Table, entries: Sequence[Entry], asked: Sequence[Entry], side: int
) -> None:
    """Writes the page, with a contact sheet of some pictures and their nearest ones.

    Args:
        folder: the job's folder.
        table: `image_id`, `rank`, `neighbour` and `distance`, sorted by picture and rank.
        entries: the pictures among which the neighbours are.
        asked: the pictures whose neighbours they are.
        side: side in pixels at which the model sees pictures.
    """
    wanted = pc.max(table["rank"]).as_py()
    count = len(table) // wanted
    numbers = np.unique(np.linspace(0, count - 1, FACES).astype(int)) * wanted
    known, queries = ({entry.image_id: entry for entry in each} for each in (entries, asked))
    columns = [table.slice(number, min(wanted, _SHOWN)).to_pylist() for number in numbers]
    rows = {"picture": [_pixels(queries[found[0]["image_id"]], side) for found in columns]}
    for rank in range(len(columns[0])):
        rows[f"nearest {rank + 1}"] = [_pixels(known[found[rank]["neighbour"]], side) for found in columns]
    sheet = draw_rows({name: np.stack(pixels) for name, pixels in rows.items()})
    write_page(
        folder.path("report"),
        "neighbours.html",
        {"neighbours": plots.png(sheet)},
        folder.settings,
        run=folder.name,
        columns=columns,
        count=count,
    )


def _pixels(entry: Entry, side: int) -> NDArray[np.uint8]:
    (stored,) = fetch([entry], side)
    return to_pixels(stored, side)
