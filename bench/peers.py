"""Measures the loaders that people would choose instead (`peer_loaders.py`), on the same images as faceae's own path.

All deliver the same thing as `ingest.faceae`: decoded uint8 pixels and a new mask for each image and epoch, in batches
of 64, with as many worker processes as cores. A peer runs in a process of its own without Ray. Its workers are started
before the first epoch; converting the images to its format is not in the first epoch's figure, but is reported.

- `DataLoader memmap`: torch's DataLoader over one decoded file, a batch at a time: the fastest of the usual ways on one
  machine. It cannot show a set that is larger than memory, or many machines: every one needs the whole file.
- `litdata PNG`, `litdata raw`: litdata with its own chunks of PNG files or of decoded pixels. It mixes less than a full
  shuffle: images within a chunk and a window, and the order of the chunks. It cannot show its streaming from a bucket.
- `webdataset PNG`: webdataset with tar files, mixed within a buffer.

What a kill costs is counted on a process that kills itself with SIGKILL in the middle of its second epoch, right after
it has saved the loader's state: the images of that epoch that come twice, or never, when a new process goes on. For a
loader that has no state the new process begins the epoch again. It cannot show what is lost between two saves: that is
the same for all.

mosaicml-streaming is not among them: its releases need numpy < 2.2 and xxhash < 4, others than constraints.txt has.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.peer_loaders import PEERS, Peer
from bench.processes import cpu_seconds, memory_bytes
from bench.settings import LATER_EPOCHS, SIZE, rate
from faceae.console import out

ROOT = Path(__file__).parents[1]


class Figures(NamedTuple):
    """What a peer's epochs cost.

    Attributes:
        first: images/s of the first epoch.
        later: images/s of the epochs after it.
        cpu: processor time of all its processes for an image of the later epochs, in seconds.
        memory: bytes of all its processes, the most at the end of an epoch; pages of files in use are included.
    """

    first: float
    later: float
    cpu: float
    memory: int


class Loss(NamedTuple):
    """What a kill in mid-epoch costs.

    Attributes:
        repeated: number of images of the epoch that are delivered again.
        lost: number of images of the epoch that are never delivered.
    """

    repeated: int
    lost: int


def available() -> list[str]:
    """Returns the names of the peers that are installed; prints a line about each one that is not."""
    installed = {name: importlib.util.find_spec(peer.module) is not None for name, peer in PEERS.items()}
    for name, found in installed.items():
        if not found:
            out.print(
                f"ingest    without {name}: pip install --no-deps -c constraints.txt -r bench/peers.txt brings it",
                markup=False,
            )
    return [name for name, found in installed.items() if found]


def convert(name: str, paths: list[Path], folder: Path) -> float:
    """Writes image files to a folder, which must not exist yet, in a peer's format; returns the seconds this takes."""
    return float(_child("convert", name, folder, *paths))


def measure(name: str, folder: Path) -> Figures:
    """Measures a peer on the folder that `convert` wrote."""
    return Figures(*json.loads(_child("measure", name, folder)))


def kill(name: str, folder: Path, images: int) -> Loss:
    """Kills a peer in mid-epoch and lets another process go on; returns what the epoch has lost of its images by it."""
    with tempfile.TemporaryDirectory() as scratch:
        state = Path(scratch) / "state"
        before = json.loads(_child("deliver_half", name, folder, state, ends=-signal.SIGKILL))
        after = json.loads(_child("deliver_rest", name, folder, state))
    delivered = Counter(before + after)
    return Loss(delivered.total() - len(delivered), images - len(delivered))


def _child(task: str, name: str, folder: Path, *more: Path, ends: int = 0) -> str:
    """Runs one of `TASKS` in a new process, which must end with a status; returns the result that it has written."""
    with tempfile.TemporaryDirectory() as scratch:
        result, log, arguments = (Path(scratch) / kind for kind in ("result", "log", "arguments"))
        arguments.write_text("\n".join(map(str, (folder, *more))))  # a command line has no room for every image
        with log.open("w") as output:  # a pipe would stay open until a killed process's workers have noticed
            command = [sys.executable, "-m", "bench.peers", task, name, str(result), str(arguments)]
            status = subprocess.run(command, stdout=output, stderr=output, cwd=ROOT).returncode
        if status != ends:
            raise SystemExit(f"peer {name}, {task}:\n{log.read_text()}")
        return result.read_text()


def _convert(peer: type[Peer], result: Path, folder: Path, *paths: Path) -> None:
    start = time.perf_counter()
    peer.convert(list(paths), folder, SIZE)
    result.write_text(str(time.perf_counter() - start))


def _measure(peer: type[Peer], result: Path, folder: Path) -> None:
    loader = peer(folder, SIZE)
    next(loader.epoch())  # starts the workers
    images = 0

    def epochs(count: int) -> int:
        nonlocal images
        images = sum(len(batch.pixels) for _ in range(count) for batch in loader.epoch())
        return images

    first = rate(lambda: epochs(1))
    memory = memory_bytes()
    before = cpu_seconds()
    later = rate(lambda: epochs(LATER_EPOCHS))
    cpu = (cpu_seconds() - before) / images
    result.write_text(json.dumps(Figures(first, later, cpu, max(memory, memory_bytes()))))


def _deliver_half(peer: type[Peer], result: Path, folder: Path, saved: Path) -> None:
    """Delivers an epoch and half of the next one, saves the loader's state, and kills itself."""
    loader = peer(folder, SIZE)
    steps = sum(1 for _ in loader.epoch())
    delivered: list[int] = []
    for batch in itertools.islice(loader.epoch(), steps // 2):
        delivered += batch.ids.tolist()
        state = loader.state()
    saved.write_bytes(pickle.dumps(state))
    result.write_text(json.dumps(delivered))
    os.kill(os.getpid(), signal.SIGKILL)


def _deliver_rest(peer: type[Peer], result: Path, folder: Path, saved: Path) -> None:
    """Goes on from a saved state, where there is one, to the end of the epoch."""
    loader = peer(folder, SIZE)
    state = pickle.loads(saved.read_bytes())
    if state is not None:
        loader.resume(state)
    result.write_text(json.dumps([number for batch in loader.epoch() for number in batch.ids.tolist()]))


TASKS: dict[str, Callable[..., None]] = {
    "convert": _convert,
    "measure": _measure,
    "deliver_half": _deliver_half,
    "deliver_rest": _deliver_rest,
}

if __name__ == "__main__":
    task, name, result, arguments = sys.argv[1:]
    TASKS[task](PEERS[name], Path(result), *map(Path, Path(arguments).read_text().splitlines()))
