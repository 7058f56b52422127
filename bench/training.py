"""Measures what the data path costs: training with real data, against the same step on batches in memory.

- `in memory`: `engine.train_one_epoch` on batches that are already in the process, with as many processes (DDP) and
  threads as the job has, and nothing else on the machine. It is the bound: a job whose data path costs nothing.
- `job`: the epochs of jobs/train.py after the first, from metrics.jsonl; Ray Data's tasks run next to the workers.

The share of time waiting for data is that of the job's first training worker. The time to the first step runs from the
command to the end of that step, and includes everything that starts in between. Memory is a worker's peak. What
the job's processes take of the cores is read from /proc every two seconds, in the epochs after the first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from bench.processes import thread_seconds
from bench.settings import BATCH, BOX, CORES, SIZE
from faceae import models
from faceae.cluster.worker_groups import in_thread
from faceae.config import Mask, Settings
from faceae.corruption import masks
from faceae.data.batch import Batch
from faceae.training import engine
from faceae.training.state import TrainState

ROOT = Path(__file__).parents[1]
EPOCHS = 3
IN_MEMORY = 1536
"""Number of images that the bound is measured on, after half as many to warm up."""


class Job(NamedTuple):
    """The figures of a run of jobs/train.py.

    Attributes:
        rate: images/s of its epochs after the first.
        wait: share of that time in which it waited for data.
        first_step: seconds from the command to the end of the first step.
        worker_bytes: peak memory of a training worker.
        cores: share of all cores that each process takes; of training workers, each group of threads.
    """

    rate: float
    wait: float
    first_step: float
    worker_bytes: int
    cores: dict[str, float]


def job(source: str, workers: int) -> Job:
    """Runs jobs/train.py with the article's settings and returns its figures."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--preset", "article", "--data.source", source, "--train.epochs", str(EPOCHS)]
        flags += ["--scale.workers", str(workers), "--run.storage", folder, "--run.name", "bench"]
        command = time.time()
        process = subprocess.Popen([sys.executable, str(ROOT / "jobs" / "train.py"), *flags], stdout=subprocess.DEVNULL)
        run = Path(folder) / "bench"
        watching = in_thread(lambda: _cores(process.pid, run / "metrics.jsonl"))
        if process.wait():
            raise SystemExit("jobs/train.py failed")
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        summary = json.loads((run / "summary.json").read_text())
    later = records[1:]
    seconds = sum(record["seconds"] for record in later)
    return Job(
        rate=sum(record["images"] for record in later) / seconds,
        wait=sum(record["data_wait_fraction"] * record["seconds"] for record in later) / seconds,
        first_step=summary["started"] - command + summary["seconds_to_first_step"],
        worker_bytes=max(record["memory_bytes"] for record in records),
        cores=watching.result(),
    )


def _cores(pid: int, metrics: Path) -> dict[str, float]:
    """Returns the share of the cores that a run's processes take after its first epoch, none if it was too short."""
    readings = []
    while read := thread_seconds(pid):
        if metrics.exists() and 1 <= len(metrics.read_text().splitlines()) < EPOCHS:
            readings.append((time.monotonic(), read))
        time.sleep(2)
    if len(readings) < 2:
        return {}
    (start, before), (end, after) = readings[0], readings[-1]
    shares: dict[str, float] = defaultdict(float)
    for thread, seconds in after.items():
        shares[thread[0]] += (seconds - before.get(thread, 0)) / (end - start) / CORES
    return dict(sorted(shares.items(), key=lambda share: -share[1]))


def in_memory(workers: int) -> float:
    """Returns the images/s of the article's network on batches in memory; the workers share the cores."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_train, (workers, folder), nprocs=workers)
        return float((Path(folder) / "rate").read_text())


def _train(rank: int, workers: int, folder: str) -> None:
    torch.set_num_threads(max(1, CORES // workers))
    settings = Settings()
    torch.manual_seed(0)
    network: torch.nn.Module = models.build(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainState(network, settings)
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=workers)
        network = DistributedDataParallel(network, forward_sync_buffers=False, gradient_as_bucket_view=True)
    mine = BATCH // workers
    pixels = np.random.default_rng(rank).integers(0, 256, (mine, SIZE, SIZE, 3), np.uint8)
    drawn = masks.draw([str(i) for i in range(mine)], Mask(size=BOX), seed=0, epoch=1, image_size=SIZE)
    batch = Batch(pixels, masks.pack(drawn), BATCH)
    cpu = torch.device("cpu")
    for images in (IN_MEMORY // 2, IN_MEMORY):
        result = engine.train_one_epoch(
            *(network, [batch] * (images // BATCH), state),
            device=cpu,
            bf16=engine.in_bf16("auto", cpu),
        )
    if rank == 0:
        (Path(folder) / "rate").write_text(str(result.images / result.seconds))
