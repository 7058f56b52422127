"""What a run was started on: the counts and digests of its images, by which a resumed run notices that they changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyarrow import ArrowException

from faceae import storage
from faceae.data.sources import Entry, digest
from faceae.data.split import Split
from faceae.errors import InputError
from faceae.run_folder import RunFolder

FILE = "data.json"
"""The file in the run's folder."""

_ROLES = {
    "train": ("training images", "--data.source"),
    "val": ("validation images", "--data.source or --data.val-source"),
    "masks": ("masks", "--mask.images"),
}


def check_listing(split: Split, masks: Sequence[Entry] | None, folder: RunFolder[Any], resumed: bool) -> None:
    """Keeps what a new run is started on in its folder, and checks that a resumed run has the same.

    Args:
        split: the images of the run, or the grid.
        masks: the user's own masks, if there are any.
        folder: the folder of the run or grid.
        resumed: whether it already held a run. One without the file, of an older version, gets it now.

    Raises:
        InputError: the images have changed since the run was started.
    """
    listed: dict[str, Sequence[Entry]] = {"train": split.train, "val": split.val}
    if masks:
        listed["masks"] = masks
    now = {role: _describe(entries) for role, entries in listed.items()}
    uri = folder.path(FILE)
    try:
        if not resumed or not storage.exists(uri):
            storage.write_json(uri, now)
            return
        then = storage.read_object(uri)
    except (OSError, ArrowException) as error:
        raise InputError(f"--run.storage {storage.explain(error, uri)}") from None
    for role, (what, flag) in _ROLES.items():
        if role not in now:
            continue
        try:
            images, same = int(then[role]["images"]), then[role]["sha256"] == now[role]["sha256"]
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{uri}: is damaged; start a run under another --run.name") from None
        if not same:
            raise InputError(
                f"{flag}: the {what} have changed since {folder.name} was started ({images} then, "
                f"{now[role]['images']} now; names and places in an archive may differ, too); start a run under "
                "another --run.name"
            )


def _describe(entries: Sequence[Entry]) -> dict[str, Any]:
    return {"images": len(entries), "sha256": digest(entries)}
