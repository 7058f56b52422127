"""The images of a run, decoded once: what a grid shares among all its trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data import rejected
from faceae.data.cache import Blocks, decode_train, decode_val, fits
from faceae.data.mask_generator import Holes
from faceae.data.reader import image_bytes
from faceae.data.sampler import Order
from faceae.data.split import Split
from faceae.errors import InputError
from faceae.run_folder import RunFolder


@dataclass(frozen=True)
class Images:
    """Decoded images in the cluster's object store.

    Attributes:
        train: to train on.
        val: to validate on, with their masks.
        holes: what is hidden in them.
        counts: read, rejected, train, val, for summary.json.
        seconds: that it took to read and decode them.
    """

    train: Blocks
    val: Blocks
    holes: Holes
    counts: dict[str, int]
    seconds: float

    def order(self, settings: Settings, most_workers: int) -> Order:
        """In which a run with these settings, and at most so many workers, trains on them."""
        return Order(
            blocks=self.train,
            seed=settings.train.seed,
            batch_size=settings.train.batch_size,
            holes=self.holes,
            mirror=settings.train.augment == "mirror",
            most_workers=most_workers,
        )


@dataclass(frozen=True)
class Job:
    """A run to train.

    Attributes:
        settings: of the run.
        order: of the training images.
        val: the validation images.
        run_uri: the run's folder, which names it on the board.
    """

    settings: Settings
    order: Order
    val: Blocks
    run_uri: str


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
    holes = Holes.of(settings.mask, size)
    with Meter("decoding", total) as meter:
        val, bad_val = decode_val(split.val, holes, meter.add)
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
    return Images(train, val, holes, counts, meter.seconds())
