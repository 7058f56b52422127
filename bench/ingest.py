"""Measures the path from image files to batches with holes, in images/s, against a torch DataLoader and the bounds.

`peers.py` measures the other loaders that people would choose.

All variants make the same thing from the same images: decoded uint8 pixels and a mask of one box, in batches of 64.

- `first epoch`, `later epochs`: faceae's own path, from `decode` to `BatchLoader`, as a training worker uses it: the
  first epoch, which includes the decoding, and the mean of the 24 epochs after it. Ray and a process for each of its
  tasks are started beforehand. The sources are a folder of PNG files and Parquet shards made by jobs/prepare.py, and in
  a bucket the same files, the same shards and a tar. The bucket's server shares the cores. The processor time is that
  of all processes, Ray's included, over the later epochs; what they do besides counts as well. It cannot show what a
  training step at the same time would cost them.
- `DataLoader`: torch.utils.data.DataLoader on the folder, with as many worker processes as cores, which decode (with
  Pillow) and mask in every epoch, as a training script without Ray does. The workers are started beforehand. It cannot
  show what a cluster adds.
- `decode bound`: faceae's decoding alone, of bytes in memory, one process per core. Nothing that decodes is faster.
- `in one process`: one process without workers that gathers batches in a new order from decoded pixels in its memory
  and draws the same masks. Nothing that hands batches from process to process is as cheap. It cannot show several
  workers, a set larger than memory, or what its time would cost a training step, which it does not overlap.
- `copy bound`: the same without masks. Nothing that shuffles is faster.

None of them shows the cost next to a training step, which shares the cores; `training.py` does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ray
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from bench.processes import cpu_seconds
from bench.serving import FIRST, ready_coordinator, serve, without_validation
from bench.settings import BATCH, BOX, CORES, SIZE, pillow, rate
from faceae.config import Mask
from faceae.corruption import masks
from faceae.data import images as image_files
from faceae.data.cache import Blocks, decode
from faceae.data.epoch_masks import draw_with_pixels
from faceae.data.loader import BatchLoader
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.sources import list_sources
from faceae.tasks import Inpaint

EPOCHS = 24
"""Later epochs of faceae: the six of its peers would be over in 0.4 s, half of it the wait for the first masks."""


class Ingest(NamedTuple):
    """The figures of a source.

    Attributes:
        first: images/s of the first epoch.
        later: images/s of the epochs after it.
        cpu: processor time of all processes for an image of these epochs, in seconds.
        cached: bytes per image in the object store.
    """

    first: float
    later: float
    cpu: float
    cached: float


def faceae(source: str) -> Ingest:
    """Measures how fast a source is read and handed to a training worker as batches."""
    entries = list_sources([source], "--source").entries
    coordinator, task, last = ready_coordinator(), Inpaint(Mask(size=BOX), SIZE), EPOCHS + 1
    start = time.perf_counter()
    blocks, _ = decode(entries, SIZE, lambda images: None, draw_with_pixels(FIRST, task))
    with serve(without_validation(blocks, task), coordinator):
        loader = BatchLoader(
            GlobalBatchSampler(blocks, 0, BATCH, task),
            range(1, last + 1),
            lambda key, needed: ray.get(coordinator.get_masks.remote(key, last, needed)),
        )
        with contextlib.closing(loader):
            images = consume(loader)
            first = images / (time.perf_counter() - start)
            before = cpu_seconds()
            later = rate(lambda: sum(consume(loader) for _ in range(EPOCHS)))
            cpu = (cpu_seconds() - before) / (EPOCHS * images)
    return Ingest(first, later, cpu, cached_bytes(blocks) / len(entries))


def consume(loader: BatchLoader) -> int:
    """Takes the batches of an epoch, as the engine would; returns the number of images."""
    return sum(len(batch.pixels) for batch in loader.epoch())


def cached_bytes(blocks: Blocks) -> int:
    """Returns the bytes that the decoded images take in the object store."""
    return sum(place["object_size"] for place in ray.experimental.get_object_locations(blocks.refs).values())


class Files(Dataset[tuple[NDArray[np.uint8], NDArray[np.uint8]]]):
    """Images and masks for a DataLoader."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        path = self.paths[index]
        drawn = masks.draw([path.name], Mask(size=BOX), seed=0, epoch=1, image_size=SIZE)
        return pillow(path.read_bytes(), SIZE), masks.pack(drawn)[0]


def dataloader(paths: list[Path]) -> Generator[float, None, None]:
    """Yields the images/s of one epoch after the other; the workers are started before the first."""
    loader = DataLoader(
        Files(paths), BATCH, shuffle=True, num_workers=CORES, prefetch_factor=4, persistent_workers=True
    )
    next(iter(loader))
    while True:
        yield rate(lambda: sum(len(pixels) for pixels, _ in loader))


def decode_bound(paths: list[Path]) -> float:
    """Returns the images/s of decoding on all cores, from memory."""
    shares = [[path.read_bytes() for path in paths[share :: 8 * CORES]] for share in range(8 * CORES)]
    quietly = (signal.SIGTERM, signal.SIG_DFL)  # ends the pool's processes; faceae turns it into a KeyboardInterrupt
    with multiprocessing.get_context("fork").Pool(CORES, signal.signal, quietly) as pool:
        pool.map(_decode_all, [share[:8] for share in shares], chunksize=1)
        return rate(lambda: sum(pool.map(_decode_all, shares, chunksize=1)))


def _decode_all(contents: list[bytes]) -> int:
    for content in contents:
        image_files.decode(content, SIZE)
    return len(contents)


def copy_bound(images: int) -> float:
    """Returns the images/s of gathering decoded pixels in a new order."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, SIZE * SIZE * 3), np.uint8)
    order = np.random.default_rng(1).permutation(images)
    return rate(lambda: sum(len(pixels[order[start : start + BATCH]]) for start in range(0, images, BATCH)))


class InProcess(NamedTuple):
    """The figures of one process that gathers by itself.

    Attributes:
        rate: images/s.
        cpu: processor time for an image, in seconds.
    """

    rate: float
    cpu: float


def in_process_bound(images: int) -> InProcess:
    """Measures gathering decoded pixels in a new order in each epoch, and drawing their masks, in this process."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, SIZE * SIZE * 3), np.uint8)
    names = np.array([f"{number:05}.png" for number in range(images)])

    def epoch(number: int) -> int:
        order = np.random.default_rng(number).permutation(images)
        return sum(len(batch(order[start : start + BATCH], number)[0]) for start in range(0, images, BATCH))

    def batch(rows: NDArray[np.int64], number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        drawn = masks.draw(names[rows].tolist(), Mask(size=BOX), seed=0, epoch=number, image_size=SIZE)
        return pixels[rows], masks.pack(drawn)

    epoch(0)
    before = time.process_time()
    measured = rate(lambda: sum(epoch(number) for number in range(1, EPOCHS + 1)))
    return InProcess(measured, (time.process_time() - before) / (EPOCHS * images))
