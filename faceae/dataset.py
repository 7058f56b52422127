"""The images of a run, decoded once: what a grid shares among all its trials, and what the baselines make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from faceae import rejected
from faceae.baselines import measure
from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data.cache import Blocks, decode_train, decode_val, fits
from faceae.data.feed import Order, validation
from faceae.data.reader import image_bytes
from faceae.data.split import Split
from faceae.errors import InputError
from faceae.metrics import Sums
from faceae.run import RunFolder


@dataclass(frozen=True)
class Images:
    """Decoded images in the cluster's object store.

    Attributes:
        train: to train on.
        val: to validate on, with their masks.
        counts: read, rejected, train, val, for summary.json.
        seconds: that it took to read and decode them.
    """

    train: Blocks
    val: Blocks
    counts: dict[str, int]
    seconds: float

    def order(self, settings: Settings, most_workers: int) -> Order:
        """In which a run with these settings, and at most so many workers, trains on them."""
        return Order(
            blocks=self.train,
            seed=settings.train.seed,
            batch_size=settings.train.batch_size,
            image_size=settings.data.image_size,
            box_size=settings.mask.size,
            most_workers=most_workers,
        )


def load(settings: Settings, split: Split, folder: RunFolder[Any]) -> Images:
    """Decodes all images of a run into the cluster's object store, and lists the rejected.

    Raises:
        InputError: too many images cannot be used.
    """
    size, total = settings.data.image_size, len(split.train) + len(split.val)
    out.print(f"images    {len(split.train)} to train on, {len(split.val)} to validate ({split.rule})")
    if not fits(total, size):
        out.print(
            f"note      {total * image_bytes(size) / 1e9:.1f} GB of decoded images do not fit in the cluster's object "
            "store: Ray keeps the rest on the nodes' disks"
        )
    with Meter("decoding", total) as meter:
        val, bad_val = decode_val(split.val, size, settings.mask.size, meter.add)
        train, bad_train = decode_train(split.train, size, meter.add)
    out.print(f"decoded   {meter.summary()}")
    bad = bad_train + bad_val
    rejected.write(bad, split.refused, folder)
    rejected.check(bad, total, folder)
    if not len(train) or not len(val):
        raise InputError("--data.source: no usable image is left for training or for validation; give more images")
    counts = {
        "read": total + len(split.refused),
        "rejected": len(bad) + len(split.refused),
        "train": len(train),
        "val": len(val),
    }
    return Images(train, val, counts, meter.seconds())


class Baselines:
    """The metrics of each baseline over the validation images, measured block by block on the cluster."""

    def __init__(self, val: Blocks, image_size: int, batch_size: int) -> None:
        """Starts measuring and returns at once."""

        @ray.remote
        def measure_block(block: Blocks) -> dict[str, Sums]:
            return measure(validation(block, image_size, batch_size))

        self.images = len(val)
        blocks = [Blocks([ref], [rows]) for ref, rows in zip(val.refs, val.usable, strict=True)]
        self._measured = [(len(block), measure_block.remote(block)) for block in blocks]

    def wait(self) -> dict[str, dict[str, float]]:
        """The metrics of each baseline, by its name."""
        totals: dict[str, Sums] = {}
        with Meter("measuring the baselines", self.images) as meter:
            for images, measured in self._measured:
                for name, sums in ray.get(measured).items():
                    totals.setdefault(name, Sums()).merge(sums)
                meter.add(images)
        return {name: sums.means() for name, sums in totals.items()}
