"""The coordinator: an asynchronous actor between the driver, Ray Tune and the training workers.

They run in different processes, possibly on different machines. The driver registers each run here once and follows
its changes; Ray Tune's trials submit runs by name and wait for their epochs; worker groups
(`faceae.cluster.worker_groups`) take submitted runs one after the other and report their progress. Every wait is for an
event: nothing polls.

A run is named by its URI. Calls of workers that have been replaced are refused, however late they arrive: the workers
may be dead, or cut off and still at work.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray

from faceae.cluster.gauges import Gauges
from faceae.cluster.mask_store import MaskStore
from faceae.cluster.placement import driver_node
from faceae.cluster.protocol import METRIC, TIME, Attempt, Changes, Pause, Verdict
from faceae.cluster.work import Group, KnownRun
from faceae.data.epoch import Drawn, EpochKey
from faceae.errors import RunFailedError
from faceae.training.progress import Record


class Coordinator:
    """See the module. Every method is called remotely, and any number of callers may wait at the same time."""

    def __init__(self) -> None:
        self.runs: dict[str, KnownRun] = {}
        self.groups: defaultdict[str, Group] = defaultdict(Group)
        self.queue: deque[str] = deque()
        self.closed = False
        self.halted = False
        self.failure: str | None = None
        self.version = 0
        self.changed = asyncio.Event()
        self.masks = MaskStore()
        self.gauges = Gauges()

    def _touch(self, run: str | None = None) -> None:
        """Raises the version, also of the given run, and wakes all callers that wait."""
        self.version += 1
        if run:
            self.runs[run].status.version = self.version
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    # The driver's side

    async def register(
        self, uri: str, spec: list[ray.ObjectRef], epochs: int, metric: str, image_bytes: int = 0
    ) -> None:
        """Registers a run, also anew one that has paused.

        Args:
            uri: the run's name.
            spec: a reference to its `RunSpec`.
            epochs: the last epoch that is to be trained.
            metric: the metric that its trial reports to Ray Tune.
            image_bytes: size of the decoded images, for Ray's metrics.
        """
        self.gauges.cached(uri, image_bytes)
        self.runs[uri] = KnownRun(spec, epochs, metric)

    async def submit(self, run: str) -> None:
        """Queues a run for the next free worker group; after `halt` the run ends instead."""
        if self.halted:
            self.runs[run].status.ended = True
        else:
            self.queue.append(run)
        self._touch(run)

    async def close(self) -> None:
        """Lets each worker group end as soon as it finds no more runs."""
        self.closed = True
        self._touch()

    async def wake(self) -> None:
        """Makes all callers that wait check again."""
        self._touch()

    async def changes(self, after: int, seen: Mapping[str, int]) -> Changes:
        """Waits until something has changed.

        Args:
            after: the version that the caller knows; 0 at first.
            seen: number of records of each run that the caller has; the statuses hold only later ones.
        """
        while self.version <= after and not self.failure:
            await self.changed.wait()
        changed = {
            uri: replace(run.status, records=run.status.records[seen.get(uri, 0) :], notes=list(run.status.notes))
            for uri, run in self.runs.items()
            if run.status.version > after
        }
        return Changes(self.version, changed, self.failure)

    async def stop(self, run: str) -> None:
        """Asks the workers to end a run with a checkpoint, at the next step they report."""
        self.runs[run].status.requested = Pause.STOP
        self._touch(run)

    async def halt(self) -> None:
        """Stops all runs: those in training with a checkpoint, and no other begins. Waits until none is trained.

        To Ray Tune, a run that ends now is complete. So its verdicts count no more: such a trial is to be continued.
        """
        self.halted = True
        while self.queue:
            await self.submit(self.queue.popleft())
        for run in self.runs:
            await self.stop(run)
        while any(run.status.device and not run.status.ended for run in self.runs.values()):
            await self.changed.wait()

    async def decide(self, run: str, verdict: Verdict) -> None:
        """Records how a trial ended for Ray Tune, and asks its workers to leave it."""
        if not self.halted:
            self.runs[run].status.verdict = verdict
            await self.stop(run)  # in case the trial's process died; otherwise it has already asked

    # The trials' side

    async def next_epoch(self, run: str, seen: int) -> dict[str, Any]:
        """Waits for the epoch after the first `seen`, or the end of the run; see `faceae.tuning.trainable`."""
        known = self.runs[run]
        status = known.status
        while len(status.records) <= seen and not status.ended:
            await self.changed.wait()
        number = min(seen, len(status.records) - 1)
        record = status.records[number] if status.records else None
        over = seen >= len(status.records) or (record is not None and record["epoch"] == known.epochs)
        value = record["val"][known.metric] if record else float("inf")
        return {METRIC: value, TIME: record["epoch"] if record else 0, "over": over, "done": over}

    # The masks, between the training workers and the driver's thread, see `faceae.cluster.mask_store`

    async def get_masks(self, key: EpochKey, last: int, blocks: Sequence[int]) -> Drawn:
        """Waits for the masks of an epoch."""
        return await self.masks.get(key, last, blocks)

    async def next_masks(self) -> tuple[EpochKey, int] | None:
        """Waits for an order of masks."""
        return await self.masks.next_order()

    async def put_masks(self, drawn: Sequence[Drawn], capacity: int) -> None:
        """Adds masks that were drawn."""
        await self.masks.put(drawn, capacity)

    async def fail_masks(self, reason: str) -> None:
        """Records that no masks are drawn any more."""
        await self.masks.fail(reason)

    # The worker groups' side

    async def start_group(self, group: str) -> Attempt:
        """Starts a group, or replaces its workers; the calls of the earlier ones are refused from now on."""
        work = self.groups[group]
        work.attempt += 1
        self._wake()
        return Attempt(group, work.attempt)

    async def confirm(self, attempt: Attempt) -> None:
        """Raises RunFailedError if these workers have been replaced; called before they write."""
        self._group(attempt)

    def _group(self, attempt: Attempt) -> Group:
        work = self.groups[attempt.group]
        if work.attempt != attempt.number:
            raise RunFailedError("other workers have taken over")
        return work

    async def next_run(self, attempt: Attempt, number: int | None) -> tuple[int, list[ray.ObjectRef]] | None:
        """Waits for a group's run with this number, counted from 0; all ranks of the group get the same run.

        Args:
            attempt: the start of the worker group.
            number: the number of the run; None for the first that is not over.

        Returns:
            The run's number and the reference to its `RunSpec`, or None if no run is left.

        Raises:
            RunFailedError: the workers have been replaced.
        """
        work = self._group(attempt)
        number = work.done if number is None else number
        while number >= len(work.taken):
            if self.queue:
                work.taken.append(self.queue.popleft())
            elif self.closed:
                return None
            else:
                await self.changed.wait()
                self._group(attempt)
        return number, self.runs[work.taken[number]].spec

    async def finish(self, attempt: Attempt, failure: str | None = None) -> None:
        """Records that a group is done with its run; `failure` says why, if it had to give up."""
        self._end_run(self._group(attempt), failure)

    def _end_run(self, work: Group, failure: str | None) -> None:
        if run := work.current:
            work.done += 1
            status = self.runs[run].status
            status.ended, status.failure = True, failure
            self.gauges.ended(run)
            self._touch(run)

    async def give_up(self, group: str, failure: str) -> bool:
        """Records that a group cannot be started again. Its run fails; if it has none, nothing can be trained at all.

        Returns:
            Whether the group may get more runs.
        """
        work = self.groups[group]
        work.attempt += 1  # its last workers may still ask
        self._wake()
        if work.current is None:
            self.failure = failure
            self._touch()
            return False
        self._end_run(work, failure)
        return bool(self.queue) or not self.closed

    async def worker_lost(self, group: str) -> int:
        """Records that a group has lost a worker and will be replaced; returns how many checkpoints it has written."""
        work = self.groups[group]
        if work.current:
            await self.note(work.current, "a worker was lost; others start")
        return work.checkpoints

    async def move(self, group: str) -> None:
        """Asks a group's workers to leave their run to a larger set of workers."""
        if run := self.groups[group].current:
            status = self.runs[run].status
            status.requested = max(status.requested, Pause.MOVE)
            await self.note(run, "there is room for more workers; all start anew")

    async def started(
        self, attempt: Attempt, run: str, device: str, workers: int, history: list[Record], images: int
    ) -> None:
        """Records that workers have started on a run.

        Args:
            attempt: the start of their group.
            run: the run.
            device: name of the device that they train on.
            workers: number of workers.
            history: the finished epochs of their checkpoint. No reported epoch is missing, since an epoch's checkpoint
                is written before the epoch is reported.
            images: number of images of the next epoch that the checkpoint includes.
        """
        self._group(attempt)
        status = self.runs[run].status
        begun = (len(history), images)
        if status.device:
            status.notes.append(status.resumed(workers, begun))
        else:
            status.begun = begun
        status.records = history
        status.device, status.workers, status.last_step = device, workers, time.monotonic()
        if status.requested == Pause.MOVE:
            status.requested = Pause.NONE
        self.gauges.started(run, workers, len(history) + 1, images)
        self._touch(run)

    async def step(self, attempt: Attempt, run: str, epoch: int, images: int) -> Pause:
        """Records how many images of an epoch are done; returns the pause that the workers are asked to make."""
        self._group(attempt)
        status = self.runs[run].status
        status.step, status.last_step = (epoch, images), time.monotonic()
        status.first_step = status.first_step or time.monotonic()
        self.gauges.step(run, epoch, images)
        self._touch(run)
        return status.requested

    async def checkpointed(self, attempt: Attempt, run: str, seconds: float) -> None:
        """Counts a checkpoint of a run that a group has written in so many seconds."""
        self._group(attempt).checkpoints += 1
        self.gauges.checkpoint(run, seconds)

    async def epoch(self, attempt: Attempt, run: str, record: Record) -> None:
        """Adds the record of a finished epoch."""
        self._group(attempt)
        status = self.runs[run].status
        status.records = [*status.records, record]
        if status.step and status.step[0] <= record["epoch"]:  # the next epoch begins while this one is written
            status.step = None
        status.last_step = time.monotonic()
        self.gauges.epoch(run, record)
        self._touch(run)

    async def note(self, run: str, text: str) -> None:
        """Adds a message for the user."""
        self.runs[run].status.notes.append(text)
        self._touch(run)


def start_coordinator() -> tuple[Any, str]:
    """Starts a coordinator on the driver's node; returns its handle and the name to find it by."""
    name = f"coordinator-{uuid.uuid4().hex}"
    return ray.remote(Coordinator).options(name=name, num_cpus=0, scheduling_strategy=driver_node()).remote(), name
