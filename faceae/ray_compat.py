"""Everything that faceae uses of Ray beyond its documented API, in one file.

Written against Ray 2.60.0, the only version that pyproject.toml admits: each entry relies on names that Ray may change
in any release. Elsewhere in the package the linter bans Ray's private modules (`ray._private`, `*._internal`).

- `silence_raylet_errors`: Ray prints sixty lines for each lost process, whatever `log_to_driver` says.
- `speed_up_short_executions`: the constants of Ray Data's executor suit executions that take minutes.
- `draining_nodes`: `ray.nodes()` does not say which nodes are about to be taken away.
- `autoscaler_max_resources`: only the GCS knows what KubeRay's autoscaler may start.
- `preemption_notified`: `ray.train.get_preemption_info()` is a barrier; every step would wait for all ranks.
- `run_trainer`: `TorchTrainer.fit()` starts an actor for its controller, which imports torch once more.
- `is_startup_timeout`, `cause_of_death`: Ray does not export the exceptions.
- `HEAD_RESOURCE`: the resource that marks the head node.

`LOCAL_ENVIRONMENT`, `CONTROLLER_ENVIRONMENT` and `TUNE_ENVIRONMENT` hold the environment variables of Ray that faceae
sets, each only where the user has not set it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import ray

from faceae.errors import InputError

SERIES = "2.60."
"""The Ray releases that this file was written for."""

HEAD_RESOURCE = "node:__internal_head__"
"""The resource that Ray gives the head node."""

LOCAL_ENVIRONMENT = {
    # A local machine is not taken away; Ray Train would start a process to watch for that.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray gives workers a niceness of 15: on a small machine all of Ray's own processes would run before training.
    "RAY_worker_niceness": "0",
}
"""For a cluster inside this process; Ray reads it when it starts."""

GROUP_START_TIMEOUT_S = 20
"""Seconds that a worker group waits for its resources before the cluster is examined again: for up to half a minute,
Ray may count on a node that has just died."""

CONTROLLER_ENVIRONMENT = {
    # How often the controller checks its workers, and so how late it notices the end of a run or a dead worker.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # Ray's default is 2
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(GROUP_START_TIMEOUT_S),
    # How long a worker may not answer before it counts as lost. Its process answers beside the thread that trains, so
    # a long step is no reason to be silent; only a process that hangs is. The other workers wait for it all this time.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",  # Ray's default is 600
    # How long the other workers are then asked to leave the process group, for which they would need it.
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",  # Ray's default is 30
}
"""For the process of Ray Train's controller."""

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # each trial's own metrics.jsonl has everything
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output prints failed trials at any verbosity
}
"""For the process of Ray Tune's driver."""


def check_version() -> None:
    """Raises InputError unless the installed Ray is one of `SERIES`."""
    if not ray.__version__.startswith(SERIES):
        raise InputError(
            f"ray {ray.__version__} is installed, but this version of faceae needs {SERIES}x; "
            f"pip install 'ray[default,train,tune]=={SERIES}*'"
        )


check_version()  # before any import of private names, which would fail with an obscure error

from ray._private.state import state  # noqa: E402
from ray.data._internal.execution import streaming_executor_state  # noqa: E402
from ray.data._internal.execution.resource_manager import ResourceManager  # noqa: E402


def is_local() -> bool:
    """Whether the cluster is inside this process, on this machine, rather than one that RAY_ADDRESS names."""
    return not os.environ.get("RAY_ADDRESS")


def train_environment() -> dict[str, str]:
    """Returns this process's RAY_TRAIN_* variables, which processes on other machines do not inherit."""
    return {} if is_local() else {name: text for name, text in os.environ.items() if name.startswith("RAY_TRAIN_")}


def set_defaults(environment: dict[str, str]) -> None:
    """Sets the environment variables that the user has not set."""
    for name, text in environment.items():
        os.environ.setdefault(name, text)


def silence_raylet_errors() -> None:
    """Keeps Ray from printing its raylets' reports of lost processes: faceae says what a loss means for the run."""
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def speed_up_short_executions() -> None:
    """Tunes Ray Data's executor for executions that take a second.

    The executor asks for the cluster's resources once a second and gets no answer the first time; until it has one, it
    would run one task at a time. It also looks for finished tasks every 0.1 s, which is not much less than one of our
    tasks takes.
    """
    ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S = 0.05
    streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S = 0.02


def draining_nodes() -> set[str]:
    """Returns the ids of the nodes that are about to be taken away."""
    return set(state.get_draining_nodes())


def autoscaler_max_resources() -> dict[str, float]:
    """Returns the most that the cluster's autoscaler says it can start; empty without one, or before it has said so."""
    return state.get_max_resources_from_cluster_config() or {}


def preemption_notified() -> bool:
    """Whether this training worker's node is about to be taken away; called in a training worker, it never waits."""
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context().preemption_context.preemption_info is not None


def run_trainer(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401  (TorchTrainer's own)
    """Runs `TorchTrainer(...).fit()` with Ray Train's controller in this process.

    Ray would start an actor for the controller and another for data sets, which faceae reads without it. It would start
    a third one for cleaning up, also on clusters without a dashboard, where that actor cannot learn of a death.
    """
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.execution.controller import TrainController

    unused = (DatasetsCallback, PlacementGroupCleanerCallback) if is_local() else (DatasetsCallback,)

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            return [each for each in super()._create_default_callbacks() if not isinstance(each, unused)]

        def _initialize_and_run_controller(self, **controller: Any) -> ray.train.Result:  # noqa: ANN401
            running = TrainController(**controller)
            asyncio.run(running.run())
            return running.get_result()

    return Trainer(*arguments, **options).fit()


def is_startup_timeout(error: BaseException) -> bool:
    """Whether a TrainingFailedError says that the workers got no resources within `GROUP_START_TIMEOUT_S`."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError)


def cause_of_death(error: BaseException) -> BaseException | None:
    """Returns why a training worker did not answer, if this is Ray Train's error about that; None otherwise."""
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    return error.health_check_failure if isinstance(error, WorkerHealthCheckFailedError) else None
