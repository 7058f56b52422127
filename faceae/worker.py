"""What each training worker of Ray Train runs: the epochs, the checkpoints, the best model."""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from faceae import checkpoint, engine, models, storage
from faceae.config import Settings
from faceae.data.cache import Blocks
from faceae.data.feed import Feed, Order, validation

STEP_REPORT_S = 0.2
"""Seconds between two words to the board about the steps of an epoch."""


@dataclass(frozen=True)
class Job:
    """A run to train.

    Attributes:
        settings: of the run.
        order: of the training images.
        val: the validation images.
        mask_tasks: Ray Data tasks that may run for each worker at a time.
        neighbours: training workers, of all runs, that share a node.
        run_uri: the run's folder, which names it on the board.
    """

    settings: Settings
    order: Order
    val: Blocks
    mask_tasks: int
    neighbours: int
    run_uri: str


def train_worker(config: dict[str, Any]) -> None:
    """What each rank of a crew does, started and restarted by Ray Train: the runs that the board gives, one by one.

    The trials of a grid so share their processes, see `faceae.crews`.
    """
    board, crew = config["board"], config["crew"]
    context = ray.train.get_context()
    rank, device = context.get_world_rank(), get_device()
    number = ray.get(board.done.remote(crew))
    while task := ray.get(board.take.remote(crew, number)):
        job: Job = ray.get(task.job[0])
        if device.type == "cpu":  # Ray sets one thread a worker, whatever the machine has
            sharers = max(job.neighbours, context.get_local_world_size())
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // sharers))
        failure = None
        try:
            _Run(job, board, rank, context.get_world_size(), device).train()
        except engine.NonFiniteLossError as error:
            # All ranks come here together. It would only happen again, so Ray Train must not retry it.
            failure = f"{error}; try a lower --optim.lr"
        if rank == 0:
            ray.get(board.end.remote(crew, failure))
        number += 1


class _Run:
    """A run on one rank."""

    def __init__(self, job: Job, board: Any, rank: int, workers: int, device: torch.device) -> None:  # noqa: ANN401
        self.job, self.board, self.rank, self.workers, self.device = job, board, rank, workers, device
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
        self.progress = checkpoint.load(job.run_uri, self.network, self.optimizer, device)
        self.started = time.monotonic() - self.progress.seconds
        self.said, self.answer, self.told_to_stop = time.monotonic(), None, False
        if rank == 0:
            name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
            board.start.remote(job.run_uri, name, self.progress.epoch)

    def train(self) -> None:
        """Trains until the epochs are done, the time is up or the board says to stop."""
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
                    stop=lambda: self.told_to_stop or time.monotonic() > end - closing,  # noqa: B023  (used within)
                    on_step=lambda images: self._say_step(epoch, images),  # noqa: B023
                )
                if engine.any_rank(self.told_to_stop, self.device):
                    break  # nobody wants this epoch
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
        record: checkpoint.Record = {
            "epoch": epoch,
            "images": result.images,
            "seconds": round(result.seconds, 3),
            "images_per_second": round(result.images / result.seconds, 1),
            "data_wait_fraction": round(result.data_wait_fraction, 4),
            "train_loss": result.loss,
            "val": self._evaluate(),
        }
        best_by = self.job.settings.train.best_by
        if not math.isfinite(record["val"][best_by]):
            raise engine.NonFiniteLossError(f"the validation {best_by} is {record['val'][best_by]}")
        self.progress.history.append(record)
        self.progress.seconds = time.monotonic() - self.started
        if self.rank == 0:
            # Before the checkpoint: if the run dies in between, the epoch is trained again and gives the same.
            if self.progress.best(best_by) is record:
                uri = storage.join(self.job.run_uri, "model")
                models.save(uri, self.network, self.job.settings, epoch=epoch, val=record["val"])
            storage.write_lines(storage.join(self.job.run_uri, "metrics.jsonl"), self.progress.history)
            checkpoint.save(self.job.run_uri, self.network, self.optimizer, self.progress)
            self.board.epoch.remote(self.job.run_uri, record)

    def _say_step(self, epoch: int, images: int) -> None:
        """Tells the board, now and then, how far the epoch is, and hears whether to go on: the answer to the last word,
        so that no step waits for it."""
        if self.rank > 0 or time.monotonic() - self.said < STEP_REPORT_S:
            return
        self.said = time.monotonic()
        if self.answer and ray.wait([self.answer], timeout=0)[0]:
            self.told_to_stop = ray.get(self.answer)
        self.answer = self.board.step.remote(self.job.run_uri, epoch, images)
