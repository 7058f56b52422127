"""The controller: an actor on the driver's node that starts one Ray Train worker group after another.

Ray Train's own controller runs inside it, in a process that exists as soon as Ray does. `TorchTrainer.fit()` would
start a controller process for each group, after the driver has imported ray.train and torch. On two cores these
imports, in one process after the other, took half of the time to the first step.
"""

from __future__ import annotations

import tempfile
from enum import Enum, auto
from typing import Any, NamedTuple

import ray

from faceae import ray_compat
from faceae.cluster.placement import Placement, driver_node
from faceae.errors import RunFailedError


class End(Enum):
    """How a worker group ended."""

    DONE = auto()
    """No run is left to train."""
    MOVED = auto()
    """Other workers take over."""
    NO_ROOM = auto()
    """The group did not get its resources within `ray_compat.GROUP_START_TIMEOUT_S`."""
    FAILED = auto()
    """The run cannot be trained by any workers."""
    LOST = auto()
    """A worker, or its node, died."""


class Outcome(NamedTuple):
    """How a worker group ended, and the cause if it was lost or its run failed."""

    end: End
    cause: str = ""


class Controller:
    """Runs Ray Train's controller in its own process."""

    def __init__(self) -> None:
        ray_compat.set_defaults(ray_compat.CONTROLLER_ENVIRONMENT)
        import faceae.cluster.worker  # noqa: F401  (takes seconds: imported before the first group is requested)

    def run_group(self, placement: Placement, config: dict[str, Any], title: str) -> Outcome:
        """Starts a worker group and waits for its end.

        Args:
            placement: where the workers run.
            config: the argument of `faceae.cluster.worker.train_worker`.
            title: the group's name in Ray's dashboard.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError

        from faceae.cluster import failures
        from faceae.cluster.worker import train_worker

        killed_before = failures.kernel_kills()
        with tempfile.TemporaryDirectory() as scratch:  # not kept: the workers write a run's files themselves
            try:
                result = ray_compat.run_trainer(
                    train_worker,
                    train_loop_config=config,
                    scaling_config=ScalingConfig(
                        num_workers=placement.workers,
                        use_gpu=placement.gpu > 0,
                        resources_per_worker=placement.bundle,
                        # GPUs exchange gradients fastest within a node; CPU workers should not share a node's cores.
                        placement_strategy="PACK" if placement.gpu else "SPREAD",
                    ),
                    run_config=RunConfig(
                        name=title,
                        storage_path=scratch,
                        failure_config=FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
                        worker_runtime_env={"env_vars": ray_compat.train_environment()},
                    ),
                )
                return Outcome(End.DONE if result.return_value else End.MOVED)
            except TrainingFailedError as error:
                if ray_compat.is_startup_timeout(error):
                    return Outcome(End.NO_ROOM)
                raised = getattr(error, "worker_failures", {}).values()
                if failed := next((each for each in raised if isinstance(each, RunFailedError)), None):
                    return Outcome(End.FAILED, str(failed))
                return Outcome(End.LOST, failures.cause(error, killed_before))


def start_controller() -> Any:  # noqa: ANN401  (an actor's handle)
    """Starts a controller on the driver's node, with the driver's RAY_TRAIN_* variables."""
    environment = ray_compat.train_environment()
    options: dict[str, Any] = {"runtime_env": {"env_vars": environment}} if environment else {}
    return ray.remote(Controller).options(num_cpus=0, scheduling_strategy=driver_node(), **options).remote()
