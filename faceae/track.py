"""The metrics of a run in the tools that people compare runs with: TensorBoard always, MLflow and Weights & Biases when
they are asked for (`--run.track`).

All of them are told the same way: after every epoch each gets the whole history and adds the records that it lacks. So
what a service missed comes with the next epoch, and a run that is continued leaves neither a gap nor a point twice.

The driver alone does this. MLflow and W&B take their server, credentials and mode from the environment, as their own
documentation says (MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE, ...); no credential is read or kept here.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import struct
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams

from faceae import config, storage
from faceae.checkpoint import Record
from faceae.config import Settings
from faceae.console import out
from faceae.errors import InputError
from faceae.run import RunFolder

PROJECT = "faceae"
"""MLflow's experiment and W&B's project, unless the environment names another."""


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
    """Tells the services of a run, each from a thread of its own: training and screen wait for none of them."""

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
        self.lines = [_Line("tensorboard", TensorBoard(folder))]
        try:
            for kind in dict.fromkeys(kinds):
                service = _begin(kind, folder, group, known.get(kind))
                self.lines.append(_Line(kind, service))
                if service.id != known.get(kind):
                    known[kind] = service.id
                    storage.write_json(ids, known)
        except InputError:
            self.end(None)
            raise

    def epoch(self, history: Sequence[Record]) -> None:
        """Tells of a new epoch.

        Args:
            history: all records of the run so far; the last one is new.
        """
        self.history = list(history)
        for line in self.lines:
            line.catch_up(self.history)

    def end(self, summary: Mapping[str, Any] | None, interrupted: bool = False) -> None:
        """Tells how the run ended, and waits until the services have heard it.

        Args:
            summary: as in summary.json; None if the run failed or was interrupted.
            interrupted: by Ctrl-C, and not failed.
        """
        for line in self.lines:
            line.end(self.history, summary, interrupted)
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


class TensorBoard:
    """An event file in the run's folder, `tensorboard/events.out.tfevents.faceae`.

    TensorBoard's server keeps an event file open and reads on from where it was. So the file has one name for all
    sessions of a run and only ever grows; in a bucket, by being written anew with the old content in front.
    """

    def __init__(self, folder: RunFolder[Settings]) -> None:
        self.uri = folder.path("tensorboard", "events.out.tfevents.faceae")
        self.settings = folder.settings
        self.content, self.logged = b"", set[int]()
        if storage.exists(self.uri):
            old = storage.read(self.uri)
            for end, event in _events(old):  # a driver that was killed may have left half an event behind the last one
                self.content = old[:end]
                self.logged.add(event.step)

    def catch_up(self, history: Sequence[Record]) -> None:
        """Adds the records that the file lacks."""
        missing = [record for record in history if record["epoch"] not in self.logged]
        if not missing:
            return
        head = b"" if self.content else self._head(missing[0])
        new = head + b"".join(_frame(_scalars(record)) for record in missing)
        if storage.is_remote(self.uri):
            storage.write(self.uri, self.content + new)
        else:
            path = Path(self.uri)
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                file.truncate(len(self.content))
                file.write(new)
        self.content += new
        self.logged |= {record["epoch"] for record in missing}

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        """Nothing: the file is complete after every epoch."""

    def _head(self, record: Record) -> bytes:
        """What an event file begins with, and the settings, for the HPARAMS tab."""
        version = Event(wall_time=_time(record), file_version="brain.Event:2")
        experiment, start, _ = hparams(_parameters(self.settings), dict.fromkeys(_numbers(record)))
        return b"".join(
            _frame(event)
            for event in (version, *(Event(wall_time=_time(record), summary=each) for each in (experiment, start)))
        )


class MLflow:
    """A run of MLflow's experiment "faceae", or MLFLOW_EXPERIMENT_NAME."""

    advice = "check MLFLOW_TRACKING_URI"

    def __init__(self, folder: RunFolder[Settings], group: str | None, known: str | None) -> None:
        # MLflow's own defaults try for minutes; what cannot be sent now is sent after the next epoch.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it may contain a password
        mlflow = importlib.import_module("mlflow")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self.entities = mlflow.entities
        self.client = mlflow.MlflowClient()
        run = self._find(known) or self._create(folder, group)
        self.id: str = run.info.run_id
        self.client.update_run(self.id, status="RUNNING")
        # A parameter cannot be changed; what may differ in a continuation (--scale.workers) then is a tag beside it.
        settings = {path: str(value) for path, value in _parameters(folder.settings).items()}
        old = run.data.params
        self.client.log_batch(
            self.id,
            params=[mlflow.entities.Param(path, value) for path, value in settings.items() if path not in old],
            tags=[
                mlflow.entities.RunTag(path, value) for path, value in settings.items() if old.get(path, value) != value
            ],
        )
        self.logged = {point.step for point in self.client.get_metric_history(self.id, "train_loss")}

    def _find(self, run_id: str | None) -> Any:  # noqa: ANN401  (a run of MLflow)
        """The run of this id, if this server has it and nobody deleted it."""
        if run_id is None:
            return None
        try:
            run = self.client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _create(self, folder: RunFolder[Settings], group: str | None) -> Any:  # noqa: ANN401
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        tags = {"folder": folder.uri} | ({"group": group} if group else {})
        return self.client.create_run(number, run_name=f"{group}/{folder.name}" if group else folder.name, tags=tags)

    def catch_up(self, history: Sequence[Record]) -> None:
        """Adds the records that the server lacks."""
        for record in history:
            if record["epoch"] not in self.logged:
                self._log(record, _numbers(record))
                self.logged.add(record["epoch"])

    def _log(self, record: Record, values: Mapping[str, float]) -> None:
        """Values at the epoch and time of a record; said twice, MLflow keeps them once."""
        at, epoch = round(1000 * _time(record)), record["epoch"]
        metrics = [self.entities.Metric(name, value, at, epoch) for name, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        """Adds the metrics of the best epoch and ends the run as FINISHED, FAILED or KILLED."""
        for record in history:
            if summary and record["epoch"] == summary["best_epoch"]:
                self._log(record, _best(summary))
        self.client.set_terminated(self.id, "FINISHED" if summary else "KILLED" if interrupted else "FAILED")


class WandB:
    """A run of W&B's project "faceae", or WANDB_PROJECT. Its client sends in the background, and repeats by itself what
    did not arrive. Its files are in the run's folder, where that is local: with WANDB_MODE=offline they are all there
    is, for `wandb sync`."""

    advice = "check WANDB_API_KEY and WANDB_BASE_URL, or do without the service with WANDB_MODE=offline"

    def __init__(self, folder: RunFolder[Settings], group: str | None, known: str | None) -> None:
        wandb = importlib.import_module("wandb")
        wandb.setup(settings=wandb.Settings(silent=True))  # no word in the terminal, and no question either
        self.id = known or uuid.uuid4().hex[:16]
        local = not storage.is_remote(folder.uri) and "WANDB_DIR" not in os.environ
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=self.id,
            group=group,
            config=_parameters(folder.settings) | {"folder": folder.uri},
            dir=folder.uri if local else None,
            resume="allow",
            reinit="create_new",  # the trials of a grid run side by side
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=30,
                finish_timeout=60,
                finish_timeout_raises=True,
                disable_git=True,  # it would send every uncommitted change, whatever is in it
                x_disable_stats=True,  # of the driver's machine, which does not train
            ),
        )
        self.run.define_metric("*", step_metric="epoch")
        # The first epoch that the server has not. Offline W&B cannot know, and the new file holds all of them again.
        self.next: int = self.run.starting_step

    def catch_up(self, history: Sequence[Record]) -> None:
        """Adds the records that W&B lacks."""
        for record in history:
            if record["epoch"] >= self.next:
                self.run.log({"epoch": record["epoch"], **_numbers(record)}, step=record["epoch"])
                self.next = record["epoch"] + 1

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        """Adds the metrics of the best epoch to the run's summary and ends the run."""
        if summary:
            self.run.summary.update(_best(summary))
        self.run.finish(exit_code=0 if summary else 255 if interrupted else 1)  # 255 is W&B's own for Ctrl-C


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


def _numbers(record: Record) -> dict[str, float]:
    """The metrics of a record by their names: train_loss, val/mse, images_per_second, ..."""
    leaves = config.flat(record)
    return {path.replace(".", "/"): leaves[path] for path in leaves if path not in ("epoch", "time")}


def _best(summary: Mapping[str, Any]) -> dict[str, float]:
    return {"best_epoch": summary["best_epoch"]} | {f"best/{name}": value for name, value in summary["val"].items()}


def _parameters(settings: Settings) -> dict[str, str | float | bool | None]:
    """The settings that say what was trained, and on what; where the results go is told otherwise."""
    leaves = config.flat(config.to_dict(settings))
    return {
        path: " ".join(map(str, value)) if isinstance(value, list) else value
        for path, value in leaves.items()
        if not path.startswith("run.")
    }


def _time(record: Record) -> float:
    """When an epoch ended, in seconds since 1970; a record of an older faceae does not say it."""
    return record.get("time") or time.time()


def _scalars(record: Record) -> Event:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in _numbers(record).items()]
    return Event(wall_time=_time(record), step=record["epoch"], summary=Summary(value=values))


def _frame(event: Event) -> bytes:
    """An event as it stands in a file: length, checksum, content, checksum."""
    data = event.SerializeToString()
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc32c(size)) + data + struct.pack("<I", masked_crc32c(data))


def _events(content: bytes) -> Iterator[tuple[int, Event]]:
    """The complete events of a file, each with the offset of its end."""
    start = 0
    while start + 8 <= len(content):
        end = start + 16 + struct.unpack_from("<Q", content, start)[0]
        if end > len(content):
            return
        yield end, Event.FromString(content[start + 12 : end - 4])
        start = end
