"""Divides images into training and validation, by their ids, so that every machine finds the same split."""

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
        train: entries to train on, in a random order that depends only on their ids.
        val: entries to validate on, in such an order too.
        refused: (image_id, reason) of files that only look like images.
        rule: description of how the images were split, for people to read.
    """

    def __init__(self, data: Data) -> None:
        """Lists the sources and splits them.

        Raises:
            InputError: a source cannot be used, or one side of the split is empty.
        """
        listing = list_sources(data.source, "--data.source", data.verify)
        self.refused = list(listing.refused)
        entries = sample(listing.entries, data.limit)
        if data.val_source:
            val = list_sources(data.val_source, "--data.val-source", data.verify)
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
    """Returns all entries, or `limit` of them, in a random order that depends only on their ids."""
    return sorted(entries, key=lambda entry: _position(entry.image_id))[:limit]


def choose(entries: Sequence[Entry], limit: int | None) -> list[Entry]:
    """Returns the sample that training with this limit would take, but in the source's order, which reads fastest."""
    chosen = {entry.image_id for entry in sample(entries, limit)}
    return [entry for entry in entries if entry.image_id in chosen]


def _split(entries: list[Entry], val_fraction: float) -> tuple[list[Entry], list[Entry], str]:
    numbers = [_ffhq_number(entry.image_id) for entry in entries]
    if all(number is not None for number in numbers):
        in_train = [number is not None and number < FFHQ_TRAIN for number in numbers]
        if any(in_train) and not all(in_train):
            rule = f"FFHQ's own split at {FFHQ_TRAIN}"
            return *_part(entries, in_train), rule
    # The hash of the id alone decides, so that adding images moves none from one side to the other.
    places = [_uniform("split", entry.image_id) for entry in entries]
    threshold = max(val_fraction, min(places))  # keeps one image for validation even if there are very few
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
    """Returns a number in [0, 1) that looks random and depends only on the arguments."""
    digest = hashlib.blake2b(f"{purpose}/{image_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
