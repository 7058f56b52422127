"""The images of a run, decoded once; all trials of a grid share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data import rejected
from faceae.data.cache import Blocks, decode, fits
from faceae.data.epoch import Drawn, EpochKey
from faceae.data.epoch_masks import draw_with_pixels
from faceae.data.mask_library import Library
from faceae.data.reader import image_bytes
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.split import Split
from faceae.data.validation import VALIDATION
from faceae.errors import InputError
from faceae.run_folder import RunFolder
from faceae.tasks import Task, create


@dataclass(frozen=True)
class FaceDataset:
    """Decoded images in the cluster's object store.

    Attributes:
        train: the training images, with the masks of the epoch `first`.
        first: the epoch whose masks were drawn as the images were decoded.
        val: the validation images, with their masks, `faceae.data.validation.VALIDATION`.
        task: what is drawn for the images, and done to them.
        counts: numbers of images as in summary.json: `read`, `rejected`, `train` and `val`.
        seconds: duration of reading and decoding.
    """

    train: Blocks
    first: EpochKey
    val: Blocks
    task: Task
    counts: dict[str, int]
    seconds: float

    @property
    def first_drawn(self) -> Drawn:
        """The masks of the epoch `first`."""
        return Drawn(self.first, dict(enumerate(self.train.refs)))

    def sampler(self, settings: Settings, max_workers: int) -> GlobalBatchSampler:
        """Returns the sampler of a run that trains on at most `max_workers` workers."""
        return GlobalBatchSampler(
            blocks=self.train,
            seed=settings.train.seed,
            batch_size=settings.train.batch_size,
            task=self.task,
            mirror=_mirrors(settings),
            max_workers=max_workers,
        )


def load_dataset(
    settings: Settings,
    split: Split,
    library: Library | None,
    folder: RunFolder[Any],
    next_epoch: int = 1,
) -> FaceDataset:
    """Decodes all images of a run into the cluster's object store, and lists the rejected ones in the run's folder.

    Args:
        settings: the run's settings, or the grid's.
        split: the images to train on and to validate.
        library: the user's own masks, if there are any.
        folder: receives rejected.jsonl.
        next_epoch: the epoch that is trained next, whose masks are drawn in the tasks that decode.

    Raises:
        InputError: too many images are unusable, or none is left for training or for validation.
    """
    size, total = settings.data.image_size, len(split.train) + len(split.val)
    out.print(f"images    {len(split.train)} to train on, {len(split.val)} to validate ({split.rule})")
    if not fits(total, size):
        out.print(
            f"note      {total * image_bytes(size) / 1e9:.1f} GB of decoded images do not fit in the cluster's object "
            "store: Ray keeps the rest on the nodes' disks"
        )
    task = create(settings, library and library.shared())
    first = EpochKey(settings.train.seed, next_epoch, _mirrors(settings))
    with Meter("decoding", total) as meter:
        val, bad_val = decode(split.val, size, meter.add, draw_with_pixels(VALIDATION, task))
        train, bad_train = decode(split.train, size, meter.add, draw_with_pixels(first, task))
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
    return FaceDataset(train, first, val, task, counts, meter.seconds())


def _mirrors(settings: Settings) -> bool:
    return settings.train.augment == "mirror"
