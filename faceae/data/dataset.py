"""The images of a run, decoded once; all trials of a grid share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data import rejected
from faceae.data.cache import Blocks, decode_train, decode_val, fits
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import image_bytes
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.split import Split
from faceae.errors import InputError
from faceae.run_folder import RunFolder


@dataclass(frozen=True)
class FaceDataset:
    """Decoded images in the cluster's object store.

    Attributes:
        train: the training images.
        val: the validation images, with their masks.
        mask_generator: draws the masks of the training images.
        counts: numbers of images as in summary.json: `read`, `rejected`, `train` and `val`.
        seconds: duration of reading and decoding.
    """

    train: Blocks
    val: Blocks
    mask_generator: MaskGenerator
    counts: dict[str, int]
    seconds: float

    def sampler(self, settings: Settings, max_workers: int) -> GlobalBatchSampler:
        """Returns the sampler of a run that trains on at most `max_workers` workers."""
        return GlobalBatchSampler(
            blocks=self.train,
            seed=settings.train.seed,
            batch_size=settings.train.batch_size,
            mask_generator=self.mask_generator,
            mirror=settings.train.augment == "mirror",
            max_workers=max_workers,
        )


def load_dataset(settings: Settings, split: Split, folder: RunFolder[Any]) -> FaceDataset:
    """Decodes all images of a run into the cluster's object store, and lists the rejected ones in the run's folder.

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
    mask_generator = MaskGenerator.from_settings(settings.mask, size)
    with Meter("decoding", total) as meter:
        val, bad_val = decode_val(split.val, mask_generator, meter.add)
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
    return FaceDataset(train, val, mask_generator, counts, meter.seconds())
