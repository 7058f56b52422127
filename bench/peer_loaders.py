"""The loaders that faceae is compared with. Each yields the same thing: decoded pixels and new masks, in batches.

Each is set up the way its documentation recommends, with as many worker processes as cores, which also draw the masks,
and which live as long as the loader. Nothing here imports Ray, or a library before it is used.
"""

from __future__ import annotations

import io
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from bench.settings import BATCH, BOX, CORES, pillow
from faceae.config import Mask
from faceae.corruption import masks

PREFETCH = 4
SHARDS = 16
"""Number of tar files: several for each worker, so that their order can be shuffled."""

MIXED = 1000
"""Images among which webdataset picks the next one at random; its documentation's figure."""


class Delivered(NamedTuple):
    """A batch as a peer delivers it.

    Attributes:
        ids: (n,) int64, the images' places in the sorted list of files.
        pixels: (n, S, S, 3) uint8.
        mask: (n, S * S / 8) uint8, see `faceae.corruption.masks.pack`.
        epoch: the epoch whose masks these are.
    """

    ids: torch.Tensor
    pixels: torch.Tensor
    mask: torch.Tensor
    epoch: int


def names_of(ids: Iterable[int]) -> list[str]:
    """Returns the names by which masks are drawn."""
    return [f"{number:05}.png" for number in ids]


def deliver(ids: list[int], pixels: NDArray[np.uint8], epoch: int) -> Delivered:
    """Adds the masks of an epoch to a batch's pixels, (n, S, S, 3) uint8."""
    drawn = masks.draw(names_of(ids), Mask(size=BOX), seed=0, epoch=epoch, image_size=pixels.shape[1])
    return Delivered(torch.tensor(ids), torch.from_numpy(pixels), torch.from_numpy(masks.pack(drawn)), epoch)


class Peer(ABC):
    """A loader over images that `convert` has written to a folder."""

    module = "torch"
    """The module that it needs."""

    def __init__(self, folder: Path, size: int) -> None:
        """Opens the images of a folder, of `size` pixels a side."""
        self.folder, self.size = folder, size

    @staticmethod
    @abstractmethod
    def convert(paths: list[Path], folder: Path, size: int) -> None:
        """Writes image files to a folder, which does not exist yet, in the form that the loader reads."""

    @abstractmethod
    def epoch(self) -> Iterator[Delivered]:
        """Yields the batches of the next epoch, or of the rest of the epoch at which `resume` was told to go on."""

    def state(self) -> Any | None:  # noqa: ANN401
        """Returns what `resume` needs to go on after the last batch, or None if the library cannot."""
        return None

    def resume(self, state: Any) -> None:  # noqa: ANN401
        """Goes on from a state; called before the first epoch."""
        raise NotImplementedError


class Memmap(Peer):
    """torch's DataLoader over one decoded memmap, a whole batch at a time.

    A DataLoader keeps no state. Its order comes from a sampler that knows seed, epoch and step, which is how people
    resume it.
    """

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(folder, size)
        rows = _Rows(np.load(folder / "pixels.npy", mmap_mode="r"))
        self.sampler = _Steps(len(rows))
        self.step = self.resume_at = 0
        # Without batch_size, an item is what the sampler yields: the rows of a batch.
        self.loader = DataLoader(
            *(rows, None), sampler=self.sampler, num_workers=CORES, prefetch_factor=PREFETCH, persistent_workers=True
        )

    @staticmethod
    def convert(paths: list[Path], folder: Path, size: int) -> None:
        """Decodes all images into one file."""
        folder.mkdir()
        shape = (len(paths), size, size, 3)
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)
        for row, path in enumerate(paths):
            pixels[row] = pillow(path.read_bytes(), size)
        pixels.flush()

    def epoch(self) -> Iterator[Delivered]:
        """Yields the next epoch's batches, see `Peer`."""
        self.sampler.epoch += 1
        self.sampler.first, self.resume_at = self.resume_at, 0
        for step, batch in enumerate(self.loader, self.sampler.first + 1):
            self.step = step
            yield batch

    def state(self) -> Any:  # noqa: ANN401
        """Returns epoch and step."""
        return self.sampler.epoch, self.step

    def resume(self, state: Any) -> None:  # noqa: ANN401
        """Goes on after a step of an epoch."""
        epoch, self.resume_at = state
        self.sampler.epoch = epoch - 1


class _Steps(Sampler[tuple[int, list[int]]]):
    """The rows of each batch from a step of an epoch on, in a new order for each epoch."""

    def __init__(self, images: int) -> None:
        self.images, self.epoch, self.first = images, 0, 0

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        order = np.random.default_rng((0, self.epoch)).permutation(self.images).tolist()
        for start in range(self.first * BATCH, self.images, BATCH):
            yield self.epoch, order[start : start + BATCH]


class _Rows(Dataset[Delivered]):
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, step: tuple[int, list[int]]) -> Delivered:
        epoch, rows = step
        return deliver(rows, self.pixels[rows], epoch)


class LitdataPng(Peer):
    """litdata's streaming loader over its own chunks of PNG files, with its default shuffle."""

    module = "litdata"
    raw = False

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(folder, size)
        os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"  # it would ask PyPI
        import litdata

        class Stream(litdata.StreamingDataset):
            def __getitem__(self, index: Any) -> tuple[int, Any, int]:  # noqa: ANN401
                number, content = super().__getitem__(index)
                return number, content, self.current_epoch

        pixels = _from_raw if self.raw else pillow
        self.loader = litdata.StreamingDataLoader(
            Stream(str(folder), shuffle=True, seed=0),
            batch_size=BATCH,
            num_workers=CORES,
            prefetch_factor=PREFETCH,
            persistent_workers=True,
            multiprocessing_context="fork",  # litdata's conversion changes the default of its process
            collate_fn=partial(_collate, size=size, pixels=pixels),
        )

    @classmethod
    def convert(cls, paths: list[Path], folder: Path, size: int) -> None:
        """Writes chunks of 64 MB, the size that litdata's documentation uses."""
        os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"
        import litdata

        litdata.optimize(
            partial(_litdata_sample, size=size if cls.raw else None),
            list(enumerate(map(str, paths))),
            str(folder),
            chunk_bytes="64MB",
            num_workers=CORES,
            verbose=False,
        )

    def epoch(self) -> Iterator[Delivered]:
        """Yields the next epoch's batches, see `Peer`."""
        yield from self.loader

    def state(self) -> Any:  # noqa: ANN401
        """Returns the library's own state."""
        return self.loader.state_dict()

    def resume(self, state: Any) -> None:  # noqa: ANN401
        """Goes on from the library's own state."""
        self.loader.load_state_dict(state)


class LitdataRaw(LitdataPng):
    """litdata's streaming loader over chunks of decoded pixels."""

    raw = True


def _litdata_sample(item: tuple[int, str], size: int | None) -> tuple[int, bytes]:
    number, path = item
    content = Path(path).read_bytes()
    return number, pillow(content, size).tobytes() if size else content


def _from_raw(content: bytes, size: int) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8).reshape(size, size, 3)


def _collate(samples: list[tuple[int, bytes, int]], size: int, pixels: Any) -> Delivered:  # noqa: ANN401
    """Makes a batch of (number, content, epoch); runs in the workers."""
    return deliver(
        [int(number) for number, _, _ in samples], np.stack([pixels(c, size) for _, c, _ in samples]), samples[0][2]
    )


class Webdataset(Peer):
    """webdataset over tar files of PNG files, which shuffles the tar files and a buffer of images.

    It cannot go on in mid-epoch: a restart begins the epoch again.
    """

    module = "webdataset"

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(folder, size)
        import webdataset

        stream = (
            webdataset.WebDataset(sorted(map(str, folder.glob("*.tar"))), shardshuffle=SHARDS)
            .shuffle(MIXED)
            .compose(_Epochs())
            .batched(BATCH, collation_fn=partial(_collate, size=size, pixels=pillow))
        )
        self.loader = webdataset.WebLoader(
            stream, batch_size=None, num_workers=CORES, prefetch_factor=PREFETCH, persistent_workers=True
        )

    @staticmethod
    def convert(paths: list[Path], folder: Path, size: int) -> None:
        """Writes tar files."""
        folder.mkdir()
        for shard in range(SHARDS):
            with tarfile.open(folder / f"{shard:03}.tar", "w") as tar:
                for number in range(shard, len(paths), SHARDS):
                    content = paths[number].read_bytes()
                    member = tarfile.TarInfo(f"{number:05}.png")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))

    def epoch(self) -> Iterator[Delivered]:
        """Yields the next epoch's batches, see `Peer`."""
        yield from self.loader


class _Epochs:
    """Counts the epochs of a worker process, which lives as long as the loader."""

    def __init__(self) -> None:
        self.epoch = 0

    def __call__(self, samples: Iterable[dict[str, Any]]) -> Iterator[tuple[int, bytes, int]]:
        self.epoch += 1
        for sample in samples:
            yield int(sample["__key__"]), sample["png"], self.epoch


PEERS: dict[str, type[Peer]] = {
    "DataLoader memmap": Memmap,
    "litdata PNG": LitdataPng,
    "litdata raw": LitdataRaw,
    "webdataset PNG": Webdataset,
}
