"""Images that cannot be used: each costs a line in rejected.jsonl, too many of them stop the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from faceae import storage
from faceae.config import RunSettings
from faceae.console import count, out
from faceae.errors import InputError
from faceae.run_folder import RunFolder

Rejected = tuple[str, str]
"""image_id and the reason why it could not be used."""

FILE = "rejected.jsonl"


def write(bad: Sequence[Rejected], refused: Sequence[Rejected], folder: RunFolder[Any]) -> None:
    """Lists the rejected in the run's folder: images that are bad, and files that only looked like images."""
    write_to(folder.uri, [*refused, *bad])


def write_to(folder: str, bad: Sequence[Rejected]) -> None:
    """Lists the rejected in a folder."""
    rows = [{"image_id": image_id, "reason": reason} for image_id, reason in sorted(bad)]
    uri = storage.join(folder, FILE)
    storage.write_lines(uri, rows)
    if rows:
        out.print(f"rejected  {count(len(rows), 'image')}, see {uri}")


def check(bad: Sequence[Rejected], total: int, folder: RunFolder[Any]) -> None:
    """Checks how many images of a run are bad.

    Raises:
        InputError: they are too many.
    """
    settings: RunSettings = folder.settings
    allowed = settings.data.max_rejected_fraction
    if len(bad) > allowed * total:
        reason, number = Counter(reason for _, reason in bad).most_common(1)[0]
        raise InputError(
            f"{settings.SOURCE}: {len(bad)} of {total} images cannot be used, more than --data.max-rejected-fraction "
            f"{allowed:g} allows; {number} of them: {reason}. They are listed in {folder.path(FILE)}"
        )
