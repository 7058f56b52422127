"""What MLflow gets of a run, read back from its store."""

import sqlite3

import pytest
from tracked import SECRET, call, finish, numbers, open_folder, record, run_session, send, summary

from faceae import storage
from faceae.errors import InputError
from faceae.tracking import Tracker

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """A client of an MLflow store in a SQLite file."""
    package = pytest.importorskip("mlflow", reason="MLflow is not installed: faceae[mlflow]")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return package.MlflowClient()


def mlflow_run(client, folder):
    return client.get_run(storage.read_json(folder.path("track.json"))["mlflow"])


def mlflow_points(client, run, name):
    return [(point.step, point.timestamp, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def test_mlflow_keeps_one_run_with_every_epoch_once(tmp_path, mlflow, capfd):
    folder = open_folder(tmp_path)
    run_session(folder, 1, 2, ["mlflow"])
    run = mlflow_run(mlflow, folder)
    assert mlflow.get_experiment(run.info.experiment_id).name == "faceae"
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["optim.lr"] == "0.001"
    assert run.data.tags["folder"] == folder.uri
    assert run.data.metrics == pytest.approx(
        numbers(2) | {"best_epoch": 2} | {f"best/{name}": value for name, value in record(2)["val"].items()}
    )
    folder = open_folder(tmp_path, train__epochs=4)
    run_session(folder, 2, 4, ["mlflow"])
    again = mlflow_run(mlflow, folder)
    assert again.info.run_id == run.info.run_id
    assert again.data.params["train.epochs"] == "2"
    assert again.data.tags["train.epochs"] == "4"
    assert mlflow_points(mlflow, run, "val/mse") == [
        (epoch, round(1000 * record(epoch)["time"]), record(epoch)["val"]["mse"]) for epoch in range(1, 5)
    ]
    assert capfd.readouterr() == ("", "")

    mlflow.delete_run(run.info.run_id)  # someone cleaned up: the next session creates a new run with all epochs
    run_session(folder, 5, 5, ["mlflow"])
    new = mlflow_run(mlflow, folder)
    assert new.info.run_id != run.info.run_id
    assert len(mlflow_points(mlflow, new, "train_loss")) == 5


def test_mlflow_records_how_a_run_ended_and_the_grid_that_it_belongs_to(tmp_path, mlflow):
    failed, stopped = open_folder(tmp_path, "failed"), open_folder(tmp_path, "stopped")
    trackers = [Tracker(folder, ["mlflow"], "grid") for folder in (failed, stopped)]
    send(trackers[1], stopped, 1, 1)
    finish(trackers[0], None)
    finish(trackers[1], None, interrupted=True)
    assert mlflow_run(mlflow, failed).info.status == "FAILED"
    assert mlflow_run(mlflow, stopped).info.status == "KILLED"
    assert mlflow_run(mlflow, stopped).info.run_name == "grid/stopped"
    assert mlflow_run(mlflow, stopped).data.tags["group"] == "grid"
    # The failed run has no finished epoch, and its settings may have changed since it started.
    run_session(open_folder(tmp_path, "failed", train__epochs=1), 1, 1, ["mlflow"])
    assert mlflow_run(mlflow, failed).data.params["train.epochs"] == "1"


def test_mlflow_failing_during_a_run_leaves_a_note_and_catches_up(tmp_path, mlflow, capsys):
    def rename(old, new):
        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")

    folder = open_folder(tmp_path)
    tracker = Tracker(folder, ["mlflow"])
    send(tracker, folder, 1, 1)
    channel = tracker.channels[1]
    call(channel, lambda: rename("metrics", "away"))
    send(tracker, folder, 2, 3)
    call(channel, lambda: rename("away", "metrics"))
    send(tracker, folder, 4, 4)
    call(channel, lambda: rename("metrics", "away"))
    finish(tracker, summary(4))
    rename("away", "metrics")
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note ")]
    assert first.startswith("note      mlflow: ")
    assert first.endswith("training goes on, and the missing records are sent after the next epoch")
    assert second.endswith("--run.resume sends the missing records")
    assert mlflow_run(mlflow, folder).info.status == "RUNNING"
    finish(Tracker(folder, ["mlflow"]), summary(4))
    run = mlflow_run(mlflow, folder)
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in mlflow_points(mlflow, run, "val/mse")] == [1, 2, 3, 4]


def test_an_unreachable_mlflow_is_an_input_error(tmp_path, mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:{SECRET}@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"--run\.track mlflow: .*127\.0\.0\.1.*; check MLFLOW_TRACKING_URI") as caught:
        Tracker(open_folder(tmp_path), ["mlflow"])
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
