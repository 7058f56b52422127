"""Starts groups of Ray Train workers for a crew, and waits for them: an actor of its own, beside the driver.

Ray Train's controller runs in it, in a process that is there as soon as Ray is. Ray Train would start one for each
group, once the driver has imported ray.train and torch to say what is to run; on two cores these imports, one after the
other in each process, were half of the time to the first step.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from enum import Enum, auto
from typing import Any, NamedTuple

import ray

from faceae.cluster.connection import is_local
from faceae.cluster.coordinator import here
from faceae.cluster.placement import Placement

ROOM_S = 20
"""Seconds that a group waits for its resources, before the cluster is looked at again: it may count on a node that has
just died, for up to half a minute."""

CONTROLLER_POLL_S = 0.2
"""How often Ray Train looks at its workers: it sees the end of a run, or a dead worker, so much later. Ray's is 2 s."""


class End(Enum):
    """Of a group of workers."""

    DONE = auto()
    """There is no more to train."""
    MOVED = auto()
    """Other workers shall go on."""
    NO_ROOM = auto()
    """It did not get what it needs in `ROOM_S`."""
    LOST = auto()
    """A worker, or the node of one, died."""


class Outcome(NamedTuple):
    """How a group ended, and of what."""

    end: End
    cause: str = ""


class Foreman:
    """Runs Ray Train's controller."""

    def __init__(self, cleaned: bool) -> None:
        """Gets ready.

        Args:
            cleaned: whether a process shall watch over this one, and free what it held should it die. It hears of that
                from the dashboard, which clusters have and a cluster in this process does not.
        """
        self.cleaned = cleaned
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(CONTROLLER_POLL_S))
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(ROOM_S))
        import faceae.cluster.worker  # noqa: F401  (takes seconds: before the first group is asked for)

    def lead(self, placement: Placement, config: dict[str, Any]) -> Outcome:
        """Starts a group of workers and waits for its end.

        Args:
            placement: of the workers.
            config: of `faceae.cluster.worker.train_worker`.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

        from faceae.cluster.worker import train_worker

        with tempfile.TemporaryDirectory() as scratch:  # what a run keeps, the workers write themselves
            trainer = _trainer(self.cleaned)(
                train_worker,
                train_loop_config=config,
                scaling_config=ScalingConfig(
                    num_workers=placement.workers,
                    use_gpu=placement.gpu > 0,
                    resources_per_worker=placement.bundle,
                    # GPUs exchange their gradients fastest within a node; CPU workers want its cores for themselves.
                    placement_strategy="PACK" if placement.gpu else "SPREAD",
                ),
                run_config=RunConfig(
                    name="crew",
                    storage_path=scratch,
                    failure_config=FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
                ),
            )
            try:
                return Outcome(End.DONE if trainer.fit().return_value else End.MOVED)
            except TrainingFailedError as error:
                if isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError):
                    return Outcome(End.NO_ROOM)
                return Outcome(End.LOST, _cause(error))


def _trainer(cleaned: bool) -> type[Any]:
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.execution.callback import RayTrainCallback
    from ray.train.v2._internal.execution.controller import TrainController

    needless = (DatasetsCallback,) if cleaned else (DatasetsCallback, PlacementGroupCleanerCallback)

    class Trainer(TorchTrainer):
        """Runs the controller here, where Ray Train starts an actor for it, and another for data sets, which faceae
        reads without it."""

        def _create_default_callbacks(self) -> list[RayTrainCallback]:
            return [each for each in super()._create_default_callbacks() if not isinstance(each, needless)]

        def _initialize_and_run_controller(self, **arguments: Any) -> ray.train.Result:  # noqa: ANN401
            controller = TrainController(**arguments)
            asyncio.run(controller.run())
            result = controller.get_result()
            if result.error:
                raise result.error
            return result

    return Trainer


def employ() -> Any:  # noqa: ANN401  (an actor's handle)
    """A foreman beside the driver."""
    return ray.remote(Foreman).options(num_cpus=0, scheduling_strategy=here()).remote(cleaned=not is_local())


def _cause(error: BaseException) -> str:
    """The innermost error of a failed run, in one line."""
    if failures := getattr(error, "worker_failures", None):
        error = failures[min(failures)]
    error = getattr(error, "controller_failure", error)
    error = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
