"""The metrics of a run in the tools that people compare runs with: TensorBoard always, MLflow and Weights & Biases when
they are asked for (`--run.track`).

All of them are told the same way: after every epoch each gets the whole history and adds the records that it lacks. So
what a service missed comes with the next epoch, and a run that is continued leaves neither a gap nor a point twice.

The driver alone does this. MLflow and W&B take their server, credentials and mode from the environment, as their own
documentation says (MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE, ...); no credential is read or kept here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol

from faceae import storage
from faceae.config import Settings
from faceae.console import out
from faceae.errors import InputError
from faceae.run_folder import RunFolder
from faceae.tracking.mlflow import MLflow
from faceae.tracking.tensorboard import TensorBoard
from faceae.tracking.wandb import WandB
from faceae.training.progress import Record


class Service(Protocol):
    """Something that keeps the metrics of a run. Any error of it is the service's, and training goes on."""

    def catch_up(self, history: Sequence[Record]) -> None:
        """Adds the records that it lacks."""

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        """Says how the run ended; see `Tracker.end`."""


class Remote(Service, Protocol):
    """One that is only told when the user asks for it.

    Attributes:
        id: of the run's record there.
        advice: what to look at when it does not work.
    """

    id: str
    advice: str

    def __init__(self, folder: RunFolder[Settings], group: str | None, known: str | None) -> None:
        """Begins the run's record, or goes on with the `known` one; raises whatever the service's client does."""


class Tracker:
    """Tells the services of a run, each from a thread of its own: training and screen wait for none of them.

    Attributes:
        history: the records of the run so far.
        summary: as in summary.json, once the run has finished; None while it runs, or if it failed.
    """

    def __init__(self, folder: RunFolder[Settings], kinds: Sequence[str], group: str | None = None) -> None:
        """Begins the run's record with each service, or goes on with that of the run that is continued.

        Args:
            folder: of the run, already opened. The records' ids are kept there in track.json, so that a record belongs
                to this folder and not to whatever had its name before, or has it on another machine.
            kinds: of `--run.track`.
            group: the name of the grid that a trial belongs to.

        Raises:
            InputError: a service is not installed, cannot be reached or knows no credentials.
        """
        metrics, ids = folder.path("metrics.jsonl"), folder.path("track.json")
        self.history: list[Record] = storage.read_lines(metrics) if storage.exists(metrics) else []
        # Without an epoch there is nothing to go on with, and the settings may have changed since.
        known: dict[str, str] = storage.read_json(ids) if self.history and storage.exists(ids) else {}
        self.summary: Mapping[str, Any] | None = None
        self.lines = [_Line("tensorboard", TensorBoard(folder))]
        try:
            for kind in dict.fromkeys(kinds):
                service = _begin(kind, folder, group, known.get(kind))
                self.lines.append(_Line(kind, service))
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
        """Tells of a new epoch.

        Args:
            history: all records of the run so far; the last one is new.
        """
        self.history = list(history)
        for line in self.lines:
            line.catch_up(self.history)

    def end(self, interrupted: bool = False) -> None:
        """Tells how the run ended, by Ctrl-C or else as `summary` says, and waits until the services have heard it."""
        for line in self.lines:
            line.end(self.history, self.summary, interrupted)
        for line in self.lines:
            line.close()


class _Line:
    """The line to a service: one thread, so that things are said in order, and a note when it is broken."""

    def __init__(self, name: str, service: Service) -> None:
        self.name, self.service, self.broken = name, service, False
        self.thread = ThreadPoolExecutor(1, f"track-{name}")

    def catch_up(self, history: Sequence[Record]) -> None:
        after = "training goes on, and what is missing there is sent after the next epoch"
        self.thread.submit(self._try, lambda: self.service.catch_up(history), after)

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        def last() -> None:
            self.broken = False  # the last word on it is worth a note
            self.service.catch_up(history)
            self.service.end(history, summary, interrupted)

        self.thread.submit(self._try, last, "--run.resume sends what is missing there")

    def close(self) -> None:
        self.thread.shutdown()

    def _try(self, say: Callable[[], None], otherwise: str) -> None:
        try:
            say()
            self.broken = False
        except Exception as error:  # whatever a service's client raises, it is not worth a run
            if not self.broken:
                out.print(f"note      {self.name}: {_one_line(error)}; {otherwise}", markup=False)
            self.broken = True


KINDS: dict[str, type[Remote]] = {"mlflow": MLflow, "wandb": WandB}
"""The services of `--run.track`; each is also the name of its package and of faceae's extra."""


def _begin(kind: str, folder: RunFolder[Settings], group: str | None, known: str | None) -> Remote:
    try:
        return KINDS[kind](folder, group, known)
    except ImportError:
        raise InputError(f"--run.track {kind}: {kind} is not installed; pip install 'faceae[{kind}]'") from None
    except Exception as error:
        raise InputError(f"--run.track {kind}: {_one_line(error)}; {KINDS[kind].advice}") from None


def _one_line(error: Exception) -> str:
    """What an error says, short and without the credentials that an address may contain."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"://[^/@\s]*@", "://", text).rstrip(". ")
    return text if len(text) <= 200 else f"{text[:200]}..."
