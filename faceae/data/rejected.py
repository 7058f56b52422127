"""Images that cannot be used: rejected.jsonl lists them, and too many of them stop the run."""

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
"""The image_id, and the reason why the image cannot be used."""

FILE = "rejected.jsonl"

_REASONS = 4  # lines in the terminal


def write(bad: Sequence[Rejected], refused: Sequence[Rejected], folder: RunFolder[Any]) -> None:
    """Lists the rejected images in the run's folder.

    Args:
        bad: images that cannot be used.
        refused: files that only look like images.
        folder: the run's folder.
    """
    write_to(folder.uri, [*refused, *bad])


def write_to(folder: str, bad: Sequence[Rejected], what: str = "image") -> None:
    """Lists rejected images in a folder, sorted by id, and says how many there are of each reason, if there are any.

    Args:
        folder: URI of the folder.
        bad: the images that cannot be used.
        what: the noun for an image in the job's output.
    """
    rows = [{"image_id": image_id, "reason": reason} for image_id, reason in sorted(bad)]
    uri = storage.join(folder, FILE)
    storage.write_lines(uri, rows)
    if not rows:
        return
    out.print(f"rejected  {count(len(rows), what)}, listed in {uri}")
    reasons = Counter(reason for _, reason in bad).most_common()
    shown = reasons if len(reasons) <= _REASONS else reasons[: _REASONS - 1]
    for reason, number in shown:
        out.print(f"          {number}: {reason}")
    if others := len(reasons) - len(shown):
        out.print(f"          {sum(number for _, number in reasons[len(shown) :])}: {others} other reasons")


def check(bad: Sequence[Rejected], total: int, folder: RunFolder[Any]) -> None:
    """Checks that a run has few enough bad images.

    Args:
        bad: the images that cannot be used.
        total: number of images that were read, bad ones included.
        folder: the run's folder.

    Raises:
        InputError: the share of bad images exceeds --data.max-rejected-fraction.
    """
    settings: RunSettings = folder.settings
    allowed = settings.data.max_rejected_fraction
    if len(bad) > allowed * total:
        reason, number = Counter(reason for _, reason in bad).most_common(1)[0]
        raise InputError(
            f"{settings.SOURCE_FLAG}: {len(bad)} of {total} images cannot be used, more than "
            f"--data.max-rejected-fraction {allowed:g} allows; {number} of them: {reason}. "
            f"They are listed in {folder.path(FILE)}"
        )
