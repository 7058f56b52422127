"""Which images are trained on and which are kept for validation: by image_id, so the same on every machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from faceae.config import Data
from faceae.data.sources import Entry, list_sources
from faceae.errors import InputError

FFHQ_TRAIN = 60_000
"""FFHQ's authors train on the first 60,000 images and validate on the last 10,000."""

_FFHQ_ID = re.compile(r"(?:^|/)(\d{5})(?:\.\w+)?$")


class Split:
    """The images of a run.

    Attributes:
        train: entries to train on, in a random order that depends on their ids only.
        val: entries to validate on, likewise.
        refused: (image_id, reason) of files that only look like images.
        rule: how the two were told apart, for a person.
    """

    def __init__(self, data: Data) -> None:
        """Lists the sources and splits them.

        Raises:
            InputError: a source cannot be used, or one side of the split is empty.
        """
        listing = list_sources(data.source, "--data.source")
        self.refused = list(listing.refused)
        entries = sample(listing.entries, data.limit)
        if data.val_source:
            val = list_sources(data.val_source, "--data.val-source")
            self.refused += val.refused
            self.train = entries
            self.val = sample(val.entries)
            self.rule = "validation from --data.val-source"
        else:
            self.train, self.val, self.rule = _split(entries, data.val_fraction)
        for side, name in ((self.train, "training"), (self.val, "validation")):
            if not side:
                raise InputError(
                    f"--data.source {' '.join(data.source)}: no image is left for {name} out of {len(entries)} "
                    f"({self.rule}); give more images, another --data.val-fraction, or --data.val-source"
                )


def sample(entries: Sequence[Entry], limit: int | None = None) -> list[Entry]:
    """All entries, or so many of them, in a random order that depends on their ids only."""
    return sorted(entries, key=lambda entry: _position(entry.image_id))[:limit]


def choose(entries: Sequence[Entry], limit: int | None) -> list[Entry]:
    """The sample that training with this limit would take, in the order of the source, which is read best so."""
    chosen = {entry.image_id for entry in sample(entries, limit)}
    return [entry for entry in entries if entry.image_id in chosen]


def _split(entries: list[Entry], val_fraction: float) -> tuple[list[Entry], list[Entry], str]:
    numbers = [_ffhq_number(entry.image_id) for entry in entries]
    if all(number is not None for number in numbers):
        in_train = [number is not None and number < FFHQ_TRAIN for number in numbers]
        if any(in_train) and not all(in_train):
            rule = f"FFHQ's own split at {FFHQ_TRAIN}"
            return *_part(entries, in_train), rule
    # A hash of the id alone: adding images moves none from one side to the other.
    places = [_uniform("split", entry.image_id) for entry in entries]
    threshold = max(val_fraction, min(places))  # of very few images, one still validates
    return *_part(entries, [place > threshold for place in places]), f"{val_fraction:.0%} by hash of image_id"


def _part(entries: list[Entry], in_train: list[bool]) -> tuple[list[Entry], list[Entry]]:
    train = [entry for entry, chosen in zip(entries, in_train, strict=True) if chosen]
    return train, [entry for entry, chosen in zip(entries, in_train, strict=True) if not chosen]


def _ffhq_number(image_id: str) -> int | None:
    match = _FFHQ_ID.search(image_id)
    return int(match[1]) if match else None


def _position(image_id: str) -> tuple[float, str]:
    return _uniform("order", image_id), image_id


def _uniform(purpose: str, image_id: str) -> float:
    """A number in [0, 1) that looks random and depends on its arguments only."""
    digest = hashlib.blake2b(f"{purpose}/{image_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
