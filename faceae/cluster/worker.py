"""What each training worker of Ray Train runs: the epochs, the checkpoints, the best model."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import resource
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import ray
import ray.train
import torch
from pyarrow import ArrowException
from ray.train.torch import get_device
from ray.train.v2._internal.execution.context import get_train_context
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from faceae import models, storage
from faceae.cluster.coordinator import Pause
from faceae.data.batch import Batch
from faceae.data.dataset import Job
from faceae.data.loader import Feed, validation
from faceae.errors import RunFailedError
from faceae.training import checkpoint, engine
from faceae.training.progress import EpochResult, Record
from faceae.training.state import Learner

STEP_REPORT_S = 0.2
"""Seconds between two words to the board about the steps of an epoch."""


def train_worker(config: dict[str, Any]) -> bool:
    """What each rank of a crew does, started by Ray Train: the runs that the board gives, one by one.

    The trials of a grid so share their processes, see `faceae.cluster.worker_groups`.

    Args:
        config: `board`, `crew` (its name there), `mask_tasks` (Ray Data tasks that may run for this worker at a time)
            and `neighbours` (training workers, of all runs, on a node).

    Returns:
        Whether there are no more runs; False: other workers shall go on with this one.
    """
    board, crew = config["board"], config["crew"]
    context = ray.train.get_context()
    rank, device = context.get_world_rank(), get_device()
    if device.type == "cpu":  # Ray sets one thread a worker, whatever the machine has
        sharers = max(config["neighbours"], context.get_local_world_size())
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // sharers))
    number = ray.get(board.done.remote(crew))
    while task := ray.get(board.take.remote(crew, number)):
        job: Job = ray.get(task.job[0])
        failure = None
        try:
            with _outages_told(board, job.run_uri):
                if not _Run(job, config, rank, context.get_world_size(), device).train():
                    return False
        except engine.NonFiniteLossError as error:
            # All ranks come here together. It would only happen again, so it must not be tried again.
            failure = f"{error}; try a lower --optim.lr"
        except RunFailedError as error:
            failure = str(error)
        if rank == 0:
            ray.get(board.end.remote(crew, failure))
        number += 1
    return True


@contextlib.contextmanager
def _outages_told(board: Any, run: str) -> Iterator[None]:  # noqa: ANN401
    """Hands what the storage warns of (it is away, and will be asked again) to the board."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            board.note.remote(run, record.getMessage())

    handler = Handler()
    storage.logger.addHandler(handler)
    try:
        yield
    finally:
        storage.logger.removeHandler(handler)


class _Run:
    """A run on one rank."""

    def __init__(self, job: Job, config: dict[str, Any], rank: int, workers: int, device: torch.device) -> None:
        self.job, self.rank, self.workers, self.device = job, rank, workers, device
        self.board, self.crew, self.mask_tasks = config["board"], config["crew"], config["mask_tasks"]
        train = job.settings.train
        torch.manual_seed(train.seed)
        network = models.build(job.settings)
        if workers > 1 and device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.learner = Learner(network, job.settings)
        self.bf16 = engine.in_bf16(train.precision, device)
        self.progress, unusable = checkpoint.load(job.run_uri, self.learner, device)
        self.started = self.saved = time.monotonic()
        self.before = self.progress.seconds
        self.end = self.started - self.before + 60 * (train.max_minutes or math.inf)
        self.closing = 0.0
        self.said, self.answer, self.order = -math.inf, None, Pause.NONE
        if rank == 0:
            if unusable:
                checkpoint.discard_after(job.run_uri, self.progress)
            for text in unusable:
                self.board.note.remote(job.run_uri, text)
            name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
            begun = (self.progress.epoch, self.progress.part.images)
            self.board.start.remote(job.run_uri, name, workers, begun)

    def train(self) -> bool:
        """Trains until the epochs are done, the time is up or the board says to stop.

        Returns:
            False if it was left for other workers to go on with.
        """
        train, order = self.job.settings.train, self.job.order
        epochs = range(self.progress.epoch + 1, train.epochs + 1)
        wrapped = self._wrap()
        self.closing = self._estimate_validation() if train.max_minutes else 0.0
        first_step = math.ceil(self.progress.part.images / train.batch_size)
        with contextlib.closing(
            Feed(order, self.rank, self.workers, epochs, self.mask_tasks, first_step=first_step)
        ) as feed:
            for epoch in epochs:
                # However short the time, one step is trained: a run without an epoch has no model to show.
                if self.progress.history and engine.any_rank(self._time_is_up(), self.device):
                    break
                result = self._train_epoch(wrapped, feed.epoch(), epoch)
                if result.pause in (Pause.MOVE, Pause.STOP):
                    return result.pause == Pause.STOP
                trained = time.monotonic()
                self._finish_epoch(epoch, result)
                self.closing = time.monotonic() - trained
                if result.pause == Pause.TIME_UP:
                    break
        return True

    def _train_epoch(self, wrapped: nn.Module, batches: Iterator[Batch], epoch: int) -> EpochResult:
        """Trains an epoch, or what is left of it, with a checkpoint wherever it pauses."""
        train = self.job.settings.train
        while True:
            result = engine.train_one_epoch(
                wrapped,
                batches,
                self.learner,
                device=self.device,
                bf16=self.bf16,
                so_far=self.progress.part,
                pause=self._pause,
                on_step=lambda images: self._say_step(epoch, images),
                done=lambda images: (epoch - 1 + images / self.job.order.images) / train.epochs,
                spent=self._spent,
            )
            if result.pause in (Pause.NONE, Pause.TIME_UP):
                return result
            self._average_buffers()  # their mean at the end of the epoch will be the same
            self.progress.part = result
            self._write(self._save)
            if result.pause != Pause.SAVE:
                return result

    def _pause(self) -> Pause:
        """Whether this rank has a reason to leave the epoch, see `engine.train_one_epoch`."""
        # Ray Train has its word from the node's; the public get_preemption_info() makes all ranks wait for each other.
        if not self.order and get_train_context().preemption_context.preemption_info:
            self.order = Pause.MOVE
            if self.rank == 0:
                self.board.note.remote(self.job.run_uri, "a node will be taken away; others start")
        if self.order:
            return self.order
        if self._time_is_up():
            return Pause.TIME_UP
        due = time.monotonic() - self.saved > 60 * self.job.settings.train.checkpoint_minutes
        return Pause.SAVE if due else Pause.NONE

    def _spent(self) -> float:
        """The share of the budget of minutes that is over; 0 without one."""
        begun = self.started - self.before
        return (time.monotonic() - begun) / max(self.end - self.closing - begun, 1e-9)

    def _time_is_up(self) -> bool:
        return time.monotonic() > self.end - self.closing

    def _wrap(self) -> nn.Module:
        if self.workers == 1:
            return self.learner.network
        return DistributedDataParallel(
            self.learner.network,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            forward_sync_buffers=False,  # once an epoch is enough, see engine.average_buffers
            gradient_as_bucket_view=True,
        )

    def _validation_batch(self) -> int:
        return max(1, self.job.settings.train.batch_size // self.workers)

    def _evaluate(self, batches: int | None = None) -> dict[str, float]:
        size = self.job.settings.data.image_size
        feed = validation(self.job.val, size, self._validation_batch(), self.rank, self.workers)
        sums = engine.evaluate(self.learner.result, islice(feed, batches), device=self.device, bf16=self.bf16)
        return sums.means()

    def _estimate_validation(self) -> float:
        """Seconds that validation will take, from one batch: a budget of minutes has to leave room for it."""
        start = time.monotonic()
        self._evaluate(batches=1)
        return (time.monotonic() - start) * len(self.job.val) / self.workers / self._validation_batch()

    def _finish_epoch(self, epoch: int, result: EpochResult) -> None:
        """Validates, keeps the model if it is the best so far, and checkpoints."""
        self._average_buffers()
        record: Record = {
            "epoch": epoch,
            "time": round(time.time(), 1),
            "images": result.images,
            "seconds": round(result.seconds, 3),
            "images_per_second": round(result.images / result.seconds, 1),
            "data_wait_fraction": round(result.data_wait_fraction, 4),
            "memory_bytes": _peak_memory(self.device),
            "train_loss": result.loss,
            "val": self._evaluate(),
        }
        best_by = self.job.settings.train.best_by
        if not math.isfinite(record["val"][best_by]):
            raise engine.NonFiniteLossError(f"the validation {best_by} is {record['val'][best_by]}")
        self.progress.history.append(record)
        self.progress.part = EpochResult()
        self._write(self._keep_epoch)
        if self.rank == 0:
            self.board.epoch.remote(self.job.run_uri, record)

    def _average_buffers(self) -> None:
        engine.average_buffers(self.learner.network)
        if self.learner.averaged is not None:
            engine.average_buffers(self.learner.averaged)

    def _keep_epoch(self) -> None:
        # The checkpoint last: if the run dies before it, the epoch is trained again and gives the same.
        history, best_by = self.progress.history, self.job.settings.train.best_by
        if self.progress.best(best_by) is history[-1]:
            uri = storage.join(self.job.run_uri, "model")
            best = {name: history[-1][name] for name in ("epoch", "val")}
            models.save(uri, self.learner.result, self.job.settings, **best)
        storage.write_lines(storage.join(self.job.run_uri, "metrics.jsonl"), history)
        self._save()

    def _save(self) -> None:
        self.progress.seconds = self.before + time.monotonic() - self.started
        checkpoint.save(self.job.run_uri, self.learner, self.progress)
        self.board.saved.remote(self.crew)

    def _write(self, write: Callable[[], None]) -> None:
        """Writes to the storage, on the first rank.

        Raises:
            RunFailedError: on all ranks, if the storage refuses.
        """
        refusal = None
        if self.rank == 0:
            try:
                write()
            except (OSError, ArrowException) as error:
                refusal = storage.explain(error, self.job.run_uri)
        self.saved = time.monotonic()
        if engine.any_rank(refusal is not None, self.device):
            raise RunFailedError(f"{refusal}; what was saved before is intact: mend this and go on with --run.resume")

    def _say_step(self, epoch: int, images: int) -> None:
        """Tells the board, now and then, how far the epoch is, and hears what to do: the answer to the last word, so
        that no step waits for it."""
        if self.rank > 0 or time.monotonic() - self.said < STEP_REPORT_S:
            return
        self.said = time.monotonic()
        if self.answer and ray.wait([self.answer], timeout=0)[0]:
            self.order = ray.get(self.answer)
        self.answer = self.board.step.remote(self.job.run_uri, epoch, images)


def _peak_memory(device: torch.device) -> int:
    """The most bytes of this process so far: of its tensors on a GPU, or of all that it held in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
