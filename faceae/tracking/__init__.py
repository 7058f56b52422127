"""Sends a run's metrics to the tools in which people compare runs: always to TensorBoard, and to MLflow and Weights &
Biases if `--run.track` names them.

All services work in the same way: after every epoch each one gets the whole history and adds the records that it lacks.
So records that a service missed are sent after the next epoch, and a resumed run has neither gaps nor duplicate points.

Only the driver does this. MLflow and W&B take their server, credentials and mode from the environment, as their own
documentation describes (MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE, ...); faceae reads and keeps no credentials.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from faceae import storage
from faceae.config import Settings
from faceae.console import count, out
from faceae.errors import InputError, one_line
from faceae.run_folder import RunFolder
from faceae.tracking.mlflow import MLflow
from faceae.tracking.tensorboard import TensorBoard
from faceae.tracking.wandb import WandB
from faceae.training.progress import Record

END_S = 90.0
"""Seconds that the services have, at the end of a run, to take what is left."""


class Service(Protocol):
    """A place that keeps the metrics of a run. Its methods may raise anything: training goes on."""

    def sync(self, history: Sequence[Record]) -> None:
        """Adds the records of `history` (all epochs so far) that the service lacks."""

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        """Records how the run ended.

        Args:
            history: the records of all epochs.
            summary: the content of summary.json, or None if the run did not finish.
            interrupted: whether the run was ended by Ctrl-C.
        """


class Remote(Service, Protocol):
    """A service outside the run's folder, used only if `--run.track` names it.

    Attributes:
        id: the service's own id of the run.
        advice: what the user should check if the service does not work.
    """

    id: str
    advice: str

    def __init__(self, folder: RunFolder[Settings], group: str | None, known: str | None) -> None:
        """Creates the run at the service, or continues it there.

        Args:
            folder: the run's folder, already opened.
            group: the name of the grid that a trial belongs to, or None.
            known: the `id` of the run to continue; None creates one.

        Raises:
            ImportError: the service's package is not installed.
            Exception: any error of the service's client.
        """


class Tracker:
    """Sends a run's metrics to its services, each from a thread of its own: training and display never wait for them.

    Attributes:
        history: the records of the run so far.
        summary: the content of summary.json once the run has finished; None while it runs, or if it failed.
        channels: the services, TensorBoard first.
    """

    def __init__(self, folder: RunFolder[Settings], kinds: Sequence[str], group: str | None = None) -> None:
        """Creates the run at each service, or continues it there if the run is resumed.

        Args:
            folder: the run's folder, already opened. The services' ids of the run are kept there in track.json, so that
                they belong to this folder and not to an earlier run, or a run on another machine, with the same name.
            kinds: the services of `--run.track`.
            group: the name of the grid that a trial belongs to.

        Raises:
            InputError: a service is not installed, cannot be reached or finds no credentials.
        """
        metrics, ids = folder.path("metrics.jsonl"), folder.path("track.json")
        self.history: list[Record] = storage.read_lines(metrics) if storage.exists(metrics) else []
        # A run without a finished epoch has nothing to continue, and its settings may have changed since it started.
        known: dict[str, str] = storage.read_json(ids) if self.history and storage.exists(ids) else {}
        self.summary: Mapping[str, Any] | None = None
        self.channels = [_Channel("tensorboard", TensorBoard(folder))]
        try:
            for kind in dict.fromkeys(kinds):
                service = _begin(kind, folder, group, known.get(kind))
                self.channels.append(_Channel(kind, service))
                if service.id != known.get(kind):
                    known[kind] = service.id
                    storage.write_json(ids, known)
        except InputError:
            self.end()
            raise

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(interrupted=kind is KeyboardInterrupt)

    def epoch(self, history: Sequence[Record]) -> None:
        """Sends the record of a new epoch to the services.

        Args:
            history: all records of the run so far; the last one is new.
        """
        self.history = list(history)
        for channel in self.channels:
            channel.sync(self.history)

    def end(self, interrupted: bool = False, wait: bool = True) -> None:
        """Records how the run ended.

        Args:
            interrupted: whether the run was ended by Ctrl-C; otherwise it finished if there is a `summary`, and failed
                if there is none.
            wait: whether to `wait`.
        """
        for channel in self.channels:
            channel.end(self.history, self.summary, interrupted)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Waits until every service has been told of the end, but no longer than `END_S` after it."""
        for channel in self.channels:
            channel.close()


class _Channel:
    """A service with its own thread, which calls it in order, and prints a note when the service starts to fail.

    An epoch that comes while the service is busy waits for the next one: each call sends all records that are missing.
    The thread does not keep the process alive, since a service may never answer.
    """

    def __init__(self, name: str, service: Service) -> None:
        self.name, self.service, self.broken = name, service, False
        self.history: Sequence[Record] = ()
        self.sent = 0  # records that the service has got
        self.deadline = math.inf
        self.calls = queue.SimpleQueue[Callable[[], None] | None]()
        self.thread = threading.Thread(target=self._run, daemon=True, name=f"track-{name}")
        self.thread.start()

    def sync(self, history: Sequence[Record]) -> None:
        otherwise = "training goes on, and the missing records are sent after the next epoch"
        self.history = history
        if self.calls.empty():
            self.calls.put(lambda: self._try(self._send, otherwise))

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        def last() -> None:
            self.broken = False  # a failure at the end gets a note even if earlier ones already did
            self._send()
            self.service.end(history, summary, interrupted)

        self.history = history
        self.calls.put(lambda: self._try(last, "--run.resume sends the missing records"))
        self.calls.put(None)
        self.deadline = time.monotonic() + END_S

    def close(self) -> None:
        """Waits until the service has been told of the end, or its time is up."""
        self.thread.join(max(0.0, self.deadline - time.monotonic()))
        if self.thread.is_alive():
            missing = len(self.history) - self.sent
            lacks = f"the last {count(missing, 'epoch')} and the run's end" if missing else "the run's end"
            out.print(
                f"note      {self.name}: no answer within {END_S:.0f} s; it may lack {lacks}; --run.resume sends them"
            )

    def _run(self) -> None:
        while call := self.calls.get():
            call()

    def _send(self) -> None:
        history = self.history
        self.service.sync(history)
        self.sent = len(history)

    def _try(self, call: Callable[[], None], otherwise: str) -> None:
        """Calls the service; if it fails, prints a note that ends in `otherwise`, unless its last call failed too."""
        try:
            call()
            self.broken = False
        except Exception as error:  # no error of a service may end a run
            if not self.broken:
                out.print(f"note      {self.name}: {one_line(error)}; {otherwise}")
            self.broken = True


KINDS: dict[str, type[Remote]] = {"mlflow": MLflow, "wandb": WandB}
"""The services of `--run.track`. Each name is also that of the service's package and of faceae's extra."""


def _begin(kind: str, folder: RunFolder[Settings], group: str | None, known: str | None) -> Remote:
    try:
        return KINDS[kind](folder, group, known)
    except ImportError:
        raise InputError(f"--run.track {kind}: {kind} is not installed; pip install 'faceae[{kind}]'") from None
    except Exception as error:
        raise InputError(f"--run.track {kind}: {one_line(error)}; {KINDS[kind].advice}") from None
