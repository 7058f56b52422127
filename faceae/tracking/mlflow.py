"""Sends metrics to MLflow; needs the extra `faceae[mlflow]`."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from faceae.config import Settings
from faceae.run_folder import RunFolder
from faceae.tracking import fields
from faceae.training.progress import Record


class MLflow:
    """A run in the MLflow experiment "faceae", or in the one that MLFLOW_EXPERIMENT_NAME names."""

    advice = "check MLFLOW_TRACKING_URI"

    def __init__(self, folder: RunFolder[Settings], group: str | None, known: str | None) -> None:
        # By default MLflow retries for minutes. Records that cannot be sent now are sent after the next epoch anyway.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # the URL may contain a password
        mlflow = importlib.import_module("mlflow")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self.entities = mlflow.entities
        self.client = mlflow.MlflowClient()
        run = self._find(known) or self._create(folder, group)
        self.id: str = run.info.run_id
        self.client.update_run(self.id, status="RUNNING")
        # MLflow's parameters cannot change. A setting that a resumed run may change (--scale.workers) becomes a tag.
        settings = {path: str(value) for path, value in fields.parameters(folder.settings).items()}
        old = run.data.params
        self.client.log_batch(
            self.id,
            params=[mlflow.entities.Param(path, value) for path, value in settings.items() if path not in old],
            tags=[
                mlflow.entities.RunTag(path, value) for path, value in settings.items() if old.get(path, value) != value
            ],
        )
        self.logged = {point.step for point in self.client.get_metric_history(self.id, "train_loss")}

    def _find(self, run_id: str | None) -> Any:  # noqa: ANN401  (an mlflow.entities.Run)
        """Returns the run of this id, or None if the server does not have it or it was deleted."""
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
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", fields.PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        tags = {"folder": folder.uri} | ({"group": group} if group else {})
        return self.client.create_run(number, run_name=f"{group}/{folder.name}" if group else folder.name, tags=tags)

    def sync(self, history: Sequence[Record]) -> None:
        """Adds the records that the server lacks."""
        for record in history:
            if record["epoch"] not in self.logged:
                self._log(record, fields.numbers(record))
                self.logged.add(record["epoch"])

    def _log(self, record: Record, values: Mapping[str, float]) -> None:
        """Logs values at the epoch and time of a record. MLflow keeps values that are logged twice only once."""
        at, epoch = round(1000 * fields.ended_at(record)), record["epoch"]
        metrics = [self.entities.Metric(name, value, at, epoch) for name, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        """Adds the metrics of the best epoch and ends the run as FINISHED, FAILED or KILLED."""
        for record in history:
            if summary and record["epoch"] == summary["best_epoch"]:
                self._log(record, fields.best(summary))
        self.client.set_terminated(self.id, "FINISHED" if summary else "KILLED" if interrupted else "FAILED")
