"""What each training worker of Ray Train runs: the epochs, the checkpoints, the best model."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from faceae import checkpoint, engine, models, storage
from faceae.checkpoint import Progress
from faceae.config import Settings
from faceae.data.cache import Blocks
from faceae.data.feed import Feed, Order, validation

STEP_REPORT_S = 0.5
"""Seconds between two words to the board about the steps of an epoch."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know.

    Attributes:
        settings: of the run.
        order: of the training images.
        val: the validation images.
        mask_tasks: Ray Data tasks that may run for each worker at a time.
        board: the `faceae.board.Board` that the driver watches.
        run_uri: the run's folder.
    """

    settings: Settings
    order: Order
    val: Blocks
    mask_tasks: int
    board: Any
    run_uri: str


def train_worker(config: dict[str, Job]) -> None:
    """The training loop of one rank, started and restarted by Ray Train."""
    job = config["job"]
    context = ray.train.get_context()
    device = get_device()
    if device.type == "cpu":  # Ray sets one thread a worker, whatever the machine has
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size()))
    try:
        _Worker(job, context.get_world_rank(), context.get_world_size(), device).run()
    except engine.NonFiniteLossError as error:
        # All ranks come here together. It would only happen again, so Ray Train must not retry it.
        if context.get_world_rank() == 0:
            ray.get(job.board.fail.remote(f"{error}; try a lower --optim.lr"))


class _Worker:
    def __init__(self, job: Job, rank: int, workers: int, device: torch.device) -> None:
        self.job, self.rank, self.workers, self.device = job, rank, workers, device
        train = job.settings.train
        torch.manual_seed(train.seed)
        network = models.build(job.settings)
        if workers > 1 and device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = engine.make_optimizer(self.network, job.settings.optim)
        self.bf16 = train.precision == "bf16" or (
            train.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
        )
        self.progress = self._restore()
        self.started = time.monotonic() - self.progress.seconds
        if rank == 0:
            name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
            job.board.start.remote(name, self.progress.epoch)

    def _restore(self) -> Progress:
        saved = ray.train.get_checkpoint()
        if saved is None:
            return Progress()
        with saved.as_directory() as folder:
            return checkpoint.load(Path(folder), self.network, self.optimizer, self.device)

    def run(self) -> None:
        """Trains until the epochs are done or the time is up."""
        train = self.job.settings.train
        epochs = range(self.progress.epoch + 1, train.epochs + 1)
        wrapped = self._wrap()
        end = self.started + 60 * (train.max_minutes or float("inf"))
        closing = self._estimate_validation() if train.max_minutes else 0.0
        with contextlib.closing(Feed(self.job.order, self.rank, self.workers, epochs, self.job.mask_tasks)) as feed:
            for epoch in epochs:
                # However short the time, one step is trained: a run without an epoch has no model to show.
                if self.progress.history and engine.any_rank(time.monotonic() > end - closing, self.device):
                    break
                result = engine.train_one_epoch(
                    wrapped,
                    feed.epoch(),
                    self.optimizer,
                    engine.LOSSES[train.loss],
                    device=self.device,
                    bf16=self.bf16,
                    deadline=end - closing,
                    on_step=self._step_reporter(epoch),
                )
                trained = time.monotonic()
                self._finish_epoch(epoch, result)
                closing = time.monotonic() - trained
                if not result.complete:
                    break

    def _wrap(self) -> nn.Module:
        if self.workers == 1:
            return self.network
        return DistributedDataParallel(
            self.network,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            broadcast_buffers=False,  # once an epoch is enough, see engine.average_buffers
            gradient_as_bucket_view=True,
        )

    def _validation_batch(self) -> int:
        return max(1, self.job.settings.train.batch_size // self.workers)

    def _evaluate(self, batches: int | None = None) -> dict[str, float]:
        size = self.job.settings.data.image_size
        feed = validation(self.job.val, size, self._validation_batch(), self.rank, self.workers)
        sums = engine.evaluate(self.network, islice(feed, batches), device=self.device, bf16=self.bf16)
        return sums.means()

    def _estimate_validation(self) -> float:
        """Seconds that validation will take, from one batch: a budget of minutes has to leave room for it."""
        start = time.monotonic()
        self._evaluate(batches=1)
        return (time.monotonic() - start) * len(self.job.val) / self.workers / self._validation_batch()

    def _finish_epoch(self, epoch: int, result: engine.EpochResult) -> None:
        """Validates, keeps the model if it is the best so far, and checkpoints."""
        engine.average_buffers(self.network)
        record = {
            "epoch": epoch,
            "images": result.images,
            "seconds": round(result.seconds, 3),
            "images_per_second": round(result.images / result.seconds, 1),
            "data_wait_fraction": round(result.data_wait_fraction, 4),
            "train_loss": result.loss,
            "val": self._evaluate(),
        }
        self.progress.history.append(record)
        self.progress.seconds = time.monotonic() - self.started
        best_by = self.job.settings.train.best_by
        if self.rank == 0:
            # Before the checkpoint: if the run dies in between, the epoch is trained again and gives the same.
            if self.progress.best(best_by) is record:
                uri = storage.join(self.job.run_uri, "model")
                models.save(uri, self.network, self.job.settings, epoch=epoch, val=record["val"])
            storage.write_lines(storage.join(self.job.run_uri, "metrics.jsonl"), self.progress.history)
        self._checkpoint(record)

    def _checkpoint(self, record: checkpoint.Record) -> None:
        metrics = {"epoch": record["epoch"], "train_loss": record["train_loss"], **record["val"]}
        if self.rank > 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(Path(folder), self.network, self.optimizer, self.progress)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        self.job.board.epoch.remote(record)

    def _step_reporter(self, epoch: int) -> Any:  # noqa: ANN401
        said = time.monotonic()

        def on_step(images: int) -> None:
            nonlocal said
            if self.rank == 0 and time.monotonic() - said > STEP_REPORT_S:
                said = time.monotonic()
                self.job.board.step.remote(epoch, images)

        return on_step
