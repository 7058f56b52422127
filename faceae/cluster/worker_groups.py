"""Worker groups of Ray Train. Each is started once and trains one run after another, including the trials of a grid.

Before a group can train, five processes of Ray's and ours import ray and torch. When each trial of a grid had its own
group, a trial took 25 s to start on two cores with two trials at a time; a running group begins its next run at once.

Loss, preemption and growth share one path: replace the workers, resume from the last checkpoint. Ray Train could
replace them itself (max_failures, num_workers=(2, 8)), but it takes the workers of a growing run away in mid-epoch and
does not leave a CPU to Ray Data.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from faceae.cluster import gauges
from faceae.cluster.controller import End, Outcome, start_controller
from faceae.cluster.coordinator import start_coordinator
from faceae.cluster.mask_drawing import draw_masks
from faceae.cluster.placement import Placement, arrange, wait_for
from faceae.cluster.protocol import Changes, RunSpec
from faceae.config import Scale
from faceae.console import clock
from faceae.data.dataset import FaceDataset
from faceae.data.reader import image_bytes
from faceae.errors import RunFailedError, one_line
from faceae.ray_compat import GROUP_START_TIMEOUT_S

WORKER_RETRIES = 3
"""How often in a row a group may lose a worker without writing a checkpoint in between; then its run fails."""

GROWTH_LOOK_S = 10
"""Seconds between two checks for room for more workers; two checks in a row must find it."""

STOP_S = 20
"""Seconds that workers have, after Ctrl-C, to finish their step and write a checkpoint."""


class WorkerGroups:
    """The worker groups of a run (one) or of a grid (as many as trials run at a time).

    Attributes:
        coordinator: the actor from which the groups take their runs.
        coordinator_name: the name by which the actor is found.
        placement: the workers of each group at first, and the number of groups.
    """

    def __init__(self, placement: Placement, scale: Scale, job: str) -> None:
        """Starts the groups and returns at once.

        Args:
            placement: the workers of each group, and the number of groups.
            scale: the settings that the placement was made from.
            job: the folder of the run or the grid, which names them in Ray's dashboard and metrics.
        """
        self.coordinator, self.coordinator_name = start_coordinator()
        self.placement, self.job, self.cached = placement, job, 0
        name = gauges.tags(job)["run"]
        names = [f"{name}-{i}" for i in range(1, placement.concurrent + 1)] if placement.concurrent > 1 else [name]
        groups = [_WorkerGroup(self.coordinator, placement, scale, each) for each in names]
        self.threads = [in_thread(group.run) for group in groups]
        self.drawing: Future[None] | None = None

    def __enter__(self) -> WorkerGroups:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self.coordinator.close.remote()  # which may be lost
        else:
            self.close()
            for thread in self.threads:
                thread.result()  # waits until the group's resources are free
        self.coordinator.fail_masks.remote("the job has ended")  # and with it the thread that draws them
        if error is None:
            if self.drawing:
                self.drawing.result()
            ray.kill(self.coordinator)  # and with it its references to the images

    def share(self, dataset: FaceDataset) -> ray.ObjectRef:
        """Makes the images available to the runs, and draws the masks that they ask for, in a thread.

        Returns:
            The reference to `dataset` for `RunSpec`.
        """
        self.cached = (len(dataset.train) + len(dataset.val)) * image_bytes(dataset.task.image_size)
        self.drawing = in_thread(lambda: draw_masks(self.coordinator, dataset, self.job))
        return ray.put(dataset)

    def register(self, spec: RunSpec) -> None:
        """Registers a run with the coordinator, without queueing it."""
        metric = spec.settings.train.best_by
        ray.get(self.coordinator.register.remote(spec.uri, [ray.put(spec)], spec.last_epoch, metric, self.cached))

    def submit(self, run: str) -> None:
        """Queues a registered run for the next free group."""
        ray.get(self.coordinator.submit.remote(run))

    def changes(self, after: int, seen: Mapping[str, int]) -> Changes:
        """Waits until something has changed, see `faceae.cluster.coordinator.Coordinator.changes`.

        Raises:
            RunFailedError: no group could be started, or the coordinator was lost.
        """
        try:
            changes: Changes = ray.get(self.coordinator.changes.remote(after, seen))
        except ray.exceptions.RayActorError:
            raise RunFailedError(
                "the coordinator was lost, perhaps with the cluster's head node; what was saved before is intact: "
                "continue with --run.resume"
            ) from None
        if changes.failure:
            raise RunFailedError(changes.failure)
        return changes

    def close(self) -> None:
        """Lets each group end and free its resources as soon as it finds no more runs."""
        ray.get(self.coordinator.close.remote())

    def stop(self) -> None:
        """Stops all runs, each with a checkpoint; returns when they have ended, or after `STOP_S`."""
        with contextlib.suppress(ray.exceptions.GetTimeoutError):
            ray.get(self.coordinator.halt.remote(), timeout=STOP_S)


class _WorkerGroup:
    """One group and its replacements, run in a thread."""

    def __init__(self, coordinator: Any, placement: Placement, scale: Scale, title: str) -> None:  # noqa: ANN401
        self.coordinator, self.placement, self.scale, self.title = coordinator, placement, scale, title
        self.name = uuid.uuid4().hex
        self.pending: PlacementGroup | None = None
        """Resources requested from an autoscaler, for workers that the run could still have."""

    def run(self) -> None:
        """Trains runs until no more are left; if one cannot be trained, it fails and the next begins."""
        while True:
            try:
                self._train()
                return
            except Exception as error:  # whatever it is, it must be recorded for the run
                if not ray.get(self.coordinator.give_up.remote(self.name, one_line(error))):
                    return
            finally:
                self._cancel_pending()

    def _train(self) -> None:
        """Starts one set of workers after another until the runs are done.

        Raises:
            RunFailedError: the run cannot be trained, workers were lost repeatedly, or they got no resources within
                `wait_minutes`.
            InputError: the machines that the run needs did not come back.
        """
        saved, waited, causes = 0, 0, list[str]()
        controller = start_controller()
        while True:
            try:
                outcome = self._wait_for_end(controller.run_group.remote(self.placement, self._config(), self.title))
            except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
                outcome, controller = Outcome(End.LOST, one_line(error)), start_controller()
            if outcome.end is End.DONE:
                return
            if outcome.end is End.FAILED:
                raise RunFailedError(outcome.cause)
            if outcome.end is End.NO_ROOM:
                waited += GROUP_START_TIMEOUT_S
                if waited > 60 * self.scale.wait_minutes:
                    raise RunFailedError(f"no room for {self.placement} within {clock(waited)}")
            if outcome.end is End.LOST:
                written = ray.get(self.coordinator.worker_lost.remote(self.name))
                causes = [*causes, outcome.cause] if written == saved else [outcome.cause]
                saved, waited = written, 0
                if len(causes) > WORKER_RETRIES:
                    why = "; then: ".join(dict.fromkeys([causes[0], causes[-1]]))
                    raise RunFailedError(f"workers were lost {len(causes)} times in a row: {why}")
            self._cancel_pending()
            self.placement = wait_for(self.placement, self.scale, groups=1)

    def _config(self) -> dict[str, Any]:
        """Returns the argument of `faceae.cluster.worker.train_worker` for new workers, which replace earlier ones."""
        return {
            "coordinator": self.coordinator,
            "attempt": ray.get(self.coordinator.start_group.remote(self.name)),
            "workers_per_node": self.placement.workers_per_node(),
        }

    def _wait_for_end(self, group: ray.ObjectRef) -> Outcome:
        """Waits for the workers' end; meanwhile, asks their run to move once there is room to grow."""
        elastic = self.placement.workers < self.placement.max_workers
        room_before = False
        while elastic and not ray.wait([group], timeout=GROWTH_LOOK_S)[0]:
            room = arrange(self.scale).workers > self.placement.workers
            if room and room_before:
                ray.get(self.coordinator.move.remote(self.name))
            room_before = room
            self._ask_for_more()
        outcome: Outcome = ray.get(group)
        return outcome

    def _ask_for_more(self) -> None:
        """Tells an autoscaler what to start. Not for CPUs, since free ones would be taken from Ray Data."""
        if self.placement.gpu and not self.pending:
            missing = self.placement.max_workers - self.placement.workers
            self.pending = placement_group([self.placement.bundle] * missing, strategy="PACK")

    def _cancel_pending(self) -> None:
        if self.pending:
            remove_placement_group(self.pending)
            self.pending = None


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Runs Ray Train or Ray Tune in a thread, so that the main thread can receive Ctrl-C."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # passed on to the caller of `result`
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="ray").start()
    return future
