"""Holds an evaluation to the masks of a file: the same images, and for each the same holes."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyarrow import ArrowException

from faceae import storage
from faceae.console import count, out
from faceae.data import frozen_masks
from faceae.data.output_names import stem
from faceae.data.sources import Entry, Listing, list_sources
from faceae.errors import InputError

FLAG = "--mask.file"


def read(uri: str) -> pa.Table:
    """Reads the masks of `--mask.file`; raises InputError if they cannot be used."""
    try:
        return frozen_masks.read(uri)
    except InputError as error:
        raise InputError(f"{FLAG} {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"{FLAG} {storage.explain(error, uri)}") from None


def only_masked(listing: Listing, table: pa.Table, uri: str) -> Listing:
    """Returns the images of a listing that have masks; says how many others there are.

    Raises:
        InputError: the listing lacks images that have masks.
    """
    ids = dict.fromkeys(table["image_id"].to_pylist())
    entries = [entry for entry in listing.entries if entry.image_id in ids]
    if lacking := ids.keys() - {entry.image_id for entry in entries}:
        raise InputError(
            f"SOURCE: lacks {len(lacking)} of the {len(ids)} images of {FLAG} {uri}, such as {min(lacking)[:200]}; "
            "name the source for which that file was written"
        )
    if others := len(listing.entries) - len(entries):
        out.print(f"note      {count(others, 'image')} of SOURCE without a mask in {uri}: not measured")
    return Listing(entries, [])


def check_square(table: pa.Table, uri: str, side: int | None = None) -> int:
    """Checks that masks are squares of one size, one for each image; returns their side in pixels.

    Args:
        table: the masks.
        uri: the file that they are from.
        side: the side that they must have; None if any will do.

    Raises:
        InputError: they are not.
    """
    sizes = set(zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True))
    wanted = side or min(sizes)[0]
    if other := sorted(sizes - {(wanted, wanted)}):
        height, width = other[0]
        raise InputError(
            f"{FLAG} {uri}: has a mask of {width}x{height} pixels, not {wanted}x{wanted}"
            f"{', the size of the model' if side else ''}; give --own-size if it was written with that"
        )
    if _several(table):
        raise InputError(f"{FLAG} {uri}: has several masks of the same image; give --own-size, as when it was written")
    return wanted


def match_restored(entries: Sequence[Entry], table: pa.Table, uri: str) -> dict[str, list[Entry]]:
    """Finds the restored picture of each mask by its name, see `_name`; the extension may differ.

    Args:
        entries: the restored pictures.
        table: the masks.
        uri: where the restored pictures are.

    Returns:
        By image_id, what was restored in each of its masks, in their order.

    Raises:
        InputError: two restored pictures have the same name, or a mask has none.
    """
    by_name: dict[str, Entry] = {}
    for entry in entries:
        other = by_name.setdefault(stem(entry.image_id), entry)
        if other is not entry:
            raise InputError(f"MODEL {uri}: {other.image_id} and {entry.image_id} have the same name; keep only one")
    several = _several(table)
    found: dict[str, list[Entry]] = {}
    lacking = []
    for row in table.select(["image_id", "kind", "size"]).to_pylist():
        name = _name(row, several)
        if made := by_name.get(name) or by_name.get(stem(name)):
            found.setdefault(row["image_id"], []).append(made)
        else:
            lacking.append(name)
    if lacking:
        raise InputError(
            f"MODEL {uri}: is no model, and as a source of restored pictures it lacks {len(lacking)} of "
            f"{table.num_rows}, such as {stem(lacking[0])[:200]}.png"
        )
    return found


def _name(row: frozen_masks.Row, several: bool) -> str:
    """Returns the name of what was restored in a mask: the image_id, in a folder KIND-SIZE if an image has several."""
    if not several:
        return row["image_id"]
    return f"{row['kind']}-{row['size']}".replace(" ", "-") + f"/{row['image_id']}"


def _several(table: pa.Table) -> bool:
    return len(table["image_id"].unique()) < table.num_rows


def restored_pictures(uri: str) -> list[Entry]:
    """Lists the pictures that another program has restored; raises InputError if there are none."""
    return list_sources([uri], "MODEL").entries
