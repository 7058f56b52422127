"""One run on one training worker: epochs, validation, checkpoints and the best model."""

from __future__ import annotations

import contextlib
import copy
import math
import resource
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import ray
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from faceae import models, ray_compat, storage
from faceae.cluster.protocol import Attempt, Pause, RunSpec
from faceae.data.batch import Batch
from faceae.data.dataset import FaceDataset
from faceae.data.epoch import Drawn, EpochKey
from faceae.data.loader import BatchLoader, Ranks
from faceae.data.mapped import Mapped
from faceae.data.reader import image_bytes
from faceae.data.validation import validation_batches
from faceae.errors import RunFailedError
from faceae.training import checkpoint, engine
from faceae.training.collectives import any_rank
from faceae.training.progress import EpochResult, Record
from faceae.training.state import TrainState
from faceae.training.transfer import ResidentImages, fit
from faceae.training.writer import Writer

STEP_REPORT_S = 0.2
"""Seconds between two reports to the coordinator about the steps of an epoch."""


class Worker(NamedTuple):
    """A training worker, which trains one run after another.

    Attributes:
        coordinator: the coordinator.
        attempt: the start of its worker group.
        device: the device that it trains on.
        ranks: the ranks of the group.
        mapped: the blocks that it has mapped; the runs of a grid share them.
    """

    coordinator: Any
    attempt: Attempt
    device: torch.device
    ranks: Ranks
    mapped: Mapped


class Run(engine.EpochControl):
    """One run on one rank."""

    def __init__(self, spec: RunSpec, worker: Worker) -> None:
        """Builds the network and loads the run's last checkpoint, if it has any."""
        self.spec = spec
        self.coordinator, self.attempt, self.device, self.ranks, self.mapped = worker
        self.rank, self.workers = self.ranks.rank, len(self.ranks.nodes)
        dataset: FaceDataset = ray.get(spec.dataset)
        self.val, self.sampler = dataset.val, dataset.sampler(spec.settings, spec.max_workers)
        train = spec.settings.train
        torch.manual_seed(train.seed)
        network = models.build(spec.settings)
        if self.workers > 1 and self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = TrainState(network, spec.settings)
        self.bf16 = engine.in_bf16(train.precision, self.device)
        self.done, unusable = checkpoint.load(spec.uri, self.state, self.device)
        self.writer = Writer(spec.uri)
        self.started = self.saved = time.monotonic()
        self.before = self.done.seconds
        self.deadline = self.started - self.before + 60 * (train.max_minutes or math.inf)
        self.validation_seconds = 0.0
        self.current_epoch = 0
        self.reported, self.answer, self.requested = -math.inf, None, Pause.NONE
        if self.rank == 0:
            if unusable:
                checkpoint.discard_after(spec.uri, self.done)
            for text in unusable:
                self.coordinator.note.remote(spec.uri, text)
            name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
            history, images = self.done.history, self.done.part.images
            self.coordinator.started.remote(self.attempt, spec.uri, name, self.workers, history, images)

    def train(self) -> bool:
        """Trains until the epochs are done, the time is up or the coordinator says to stop.

        Returns:
            False if other workers are to continue the run.
        """
        train = self.spec.settings.train
        epochs = range(self.done.epoch + 1, self.spec.last_epoch + 1)
        wrapped = self._wrap()
        self.validation_seconds = self._estimate_validation() if train.max_minutes else 0.0
        first_step = math.ceil(self.done.part.images / train.batch_size)
        resident = self._resident_images()
        loader = BatchLoader(
            self.sampler, epochs, self._masks, self.ranks, self.mapped, first_step, resident=resident is not None
        )
        with contextlib.closing(loader):
            for epoch in epochs:
                # At least one step is trained, however short the time: a run without an epoch has no model to show.
                if self.done.history and any_rank(self._time_is_up(), self.device):
                    break
                self.current_epoch = epoch
                result = self._train_epoch(wrapped, loader.epoch(), resident)
                if result.pause in (Pause.MOVE, Pause.STOP):
                    self._finish_writing()
                    return result.pause == Pause.STOP
                trained = time.monotonic()
                self._finish_epoch(epoch, result)
                self.validation_seconds = time.monotonic() - trained
                if result.pause == Pause.TIME_UP:
                    break
        self._finish_writing()
        return True

    def _masks(self, key: EpochKey, blocks: Sequence[int]) -> Drawn:
        drawn: Drawn = ray.get(self.coordinator.get_masks.remote(key, self.spec.settings.train.epochs, blocks))
        return drawn

    def _resident_images(self) -> ResidentImages | None:
        """Reserves room for the images on the device, where they fit and a single rank trains on all of them."""
        images, size = len(self.sampler.blocks), self.sampler.image_size
        share = ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0)
        if self.workers > 1 or not fit(images * image_bytes(size), self.device, share):
            return None
        return ResidentImages(images, size, self.device)

    def _train_epoch(
        self, wrapped: nn.Module, batches: Iterator[Batch], resident: ResidentImages | None
    ) -> EpochResult:
        """Trains an epoch, or what is left of it, with a checkpoint wherever it pauses."""
        while True:
            result = engine.train_one_epoch(
                wrapped,
                batches,
                self.state,
                device=self.device,
                bf16=self.bf16,
                so_far=self.done.part,
                control=self,
                resident=resident,
            )
            if result.pause in (Pause.NONE, Pause.TIME_UP):
                return result
            self.done.part = result
            self._save()
            if result.pause != Pause.SAVE:
                return result

    # Called by the engine while it trains an epoch, see `engine.EpochControl`

    def pause(self) -> Pause:
        """Returns the reason for this rank to leave the epoch."""
        if not self.requested and ray_compat.preemption_notified():
            self.requested = Pause.MOVE
            if self.rank == 0:
                self.coordinator.note.remote(self.spec.uri, "a node will be taken away; others start")
        if self.requested:
            return self.requested
        if self._time_is_up():
            return Pause.TIME_UP
        due = time.monotonic() - self.saved > 60 * self.spec.settings.train.checkpoint_minutes
        # Only the first rank writes, so only it knows whether the storage has taken the last checkpoint.
        save = self.rank == 0 and (self.writer.refusal or (due and self.writer.idle))
        return Pause.SAVE if save else Pause.NONE

    def on_step(self, images: int) -> None:
        """Reports to the coordinator every `STEP_REPORT_S`, and reads the answer to the last report without waiting."""
        if self.rank > 0 or time.monotonic() - self.reported < STEP_REPORT_S:
            return
        self.reported = time.monotonic()
        if self.answer and ray.wait([self.answer], timeout=0)[0]:
            self.requested = ray.get(self.answer)
        self.answer = self.coordinator.step.remote(self.attempt, self.spec.uri, self.current_epoch, images)

    def progress(self, images: int) -> float:
        """Returns the share of the run's epochs that is over."""
        return (self.current_epoch - 1 + images / self.sampler.images) / self.spec.settings.train.epochs

    def time_used(self) -> float:
        """Returns the share of the time budget that is used up; 0 without a budget."""
        begun = self.started - self.before
        return (time.monotonic() - begun) / max(self.deadline - self.validation_seconds - begun, 1e-9)

    def _time_is_up(self) -> bool:
        return time.monotonic() > self.deadline - self.validation_seconds

    def _wrap(self) -> nn.Module:
        if self.workers == 1:
            return self.state.network
        return DistributedDataParallel(
            self.state.network,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            forward_sync_buffers=False,  # TrainState.step does
            gradient_as_bucket_view=True,
        )

    def _evaluate(self, batches: int | None = None) -> dict[str, float]:
        size = self.spec.settings.data.image_size
        batch = engine.validation_batch(size, self.device)
        loader = validation_batches(self.val, self.sampler.task, batch, self.rank, self.workers, self.mapped)
        sums = engine.evaluate(self.state.best_network, islice(loader, batches), device=self.device, bf16=self.bf16)
        return sums.means()

    def _estimate_validation(self) -> float:
        """Estimates the seconds of a validation from one batch: a time budget has to leave room for it."""
        start = time.monotonic()
        self._evaluate(batches=1)
        share = len(self.val) / self.workers
        measured = min(share, engine.validation_batch(self.spec.settings.data.image_size, self.device))
        return (time.monotonic() - start) * share / measured

    def _finish_epoch(self, epoch: int, result: EpochResult) -> None:
        """Validates, keeps the model if it is the best so far, and writes a checkpoint."""
        record: Record = {
            "epoch": epoch,
            "time": round(time.time(), 1),  # noqa: TID251  (a date)
            "images": result.images,
            "seconds": round(result.seconds, 3),
            "images_per_second": round(result.images / result.seconds, 1),
            "data_wait_fraction": round(result.data_wait_fraction, 4),
            "memory_bytes": _peak_memory(self.device),
            "train_loss": result.loss,
            "val": self._evaluate(),
        }
        if not math.isfinite(record["val"]["mse"]):
            raise engine.NonFiniteLossError(f"the validation mse is {record['val']['mse']}")
        self.done.history.append(record)
        self.done.part = EpochResult()
        self._save(record)

    def _save(self, epoch: Record | None = None) -> None:
        """Has a checkpoint written, with the model and the line in metrics.jsonl if an epoch is finished."""
        self._raise_refusal()
        self.saved = time.monotonic()
        self.done.seconds = self.before + self.saved - self.started
        if self.rank > 0:
            return
        snapshot, done = self.state.snapshot(), copy.deepcopy(self.done)

        def write() -> None:
            start = time.monotonic()
            ray.get(self.coordinator.confirm.remote(self.attempt))
            self.spec.claim.check()
            # The checkpoint comes last: if the run dies before it, the epoch is trained again, with the same result.
            if epoch:
                if done.best(self.spec.settings.train.best_by)["epoch"] == epoch["epoch"]:
                    best = {name: epoch[name] for name in ("epoch", "val")}
                    uri = storage.join(self.spec.uri, "model")
                    models.save(uri, snapshot.best_network, self.spec.settings, **best)
                storage.write_lines(storage.join(self.spec.uri, "metrics.jsonl"), done.history)
            checkpoint.save(self.spec.uri, snapshot, done)
            self.coordinator.checkpointed.remote(self.attempt, self.spec.uri, time.monotonic() - start)
            if epoch:
                self.coordinator.epoch.remote(self.attempt, self.spec.uri, epoch)

        self.writer.submit(write)

    def _raise_refusal(self) -> None:
        """Raises RunFailedError on all ranks if the storage has refused a write."""
        if any_rank(self.writer.refusal is not None, self.device):
            raise RunFailedError(self.writer.refusal or "the first rank could not write")

    def _finish_writing(self) -> None:
        self.writer.wait()
        self._raise_refusal()


def _peak_memory(device: torch.device) -> int:
    """Returns the peak memory in bytes: of this process's tensors on a GPU, or of its whole main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
