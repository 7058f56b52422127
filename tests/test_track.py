"""What TensorBoard, MLflow and W&B are told of a run, read back from what they keep."""

import json
import sqlite3
import struct
import sys
from pathlib import Path

import pytest
from conftest import small
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from faceae import storage
from faceae.errors import InputError
from faceae.metrics import NAMES
from faceae.run import RunFolder
from faceae.track import Tracker

EVENTS = "tensorboard/events.out.tfevents.faceae"
SECRET = "0123456789abcdef0123456789abcdef01234567"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")


def finish(tracker, summary, interrupted=False):
    tracker.summary = summary
    tracker.end(interrupted)


def record(epoch):
    return {
        "epoch": epoch,
        "time": 1.7e9 + 60 * epoch,
        "images": 76,
        "seconds": 7.9,
        "images_per_second": 9.6,
        "data_wait_fraction": 0.0012,
        "memory_bytes": 812345678,
        "train_loss": 0.5 / epoch,
        "val": {name: 0.25 / epoch + number for number, name in enumerate(NAMES)},
    }


def open_folder(root, name="run", **changes):
    folder = RunFolder(small("faces", root, name, run__resume=True, **changes))
    folder.open()
    return folder


def tell(tracker, folder, first, last):
    """The epochs of a session."""
    for epoch in range(first, last + 1):
        history = [record(number) for number in range(1, epoch + 1)]
        storage.write_lines(folder.path("metrics.jsonl"), history)
        tracker.epoch(history)


def summary(epoch):
    return {"best_epoch": epoch, "val": record(epoch)["val"]}


def train(folder, first, last, kinds=()):
    tracker = Tracker(folder, kinds)
    tell(tracker, folder, first, last)
    finish(tracker, summary(last))


def events(content):
    """The events of a file, its checksums checked."""
    found = []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        data, content = content[: size + 16], content[size + 16 :]
        for part, sum_ in ((data[:8], data[8:12]), (data[12:-4], data[-4:])):
            crc = crc32c(part)
            assert struct.unpack("<I", sum_)[0] == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        found.append(Event.FromString(data[12:-4]))
    return found


def scalars(content):
    """Step, time and values of each point."""
    return [
        (event.step, event.wall_time, {value.tag: value.simple_value for value in event.summary.value})
        for event in events(content)
        if event.step
    ]


def expected(last):
    epochs = range(1, last + 1)
    return [(epoch, 1.7e9 + 60 * epoch, pytest.approx(numbers(epoch), rel=1e-6)) for epoch in epochs]


def numbers(epoch):
    values = {key: value for key, value in record(epoch).items() if key not in ("epoch", "time", "val")}
    return values | {f"val/{name}": value for name, value in record(epoch)["val"].items()}


def test_tensorboard_reads_every_epoch_once_however_often_a_run_is_continued(tmp_path):
    folder = open_folder(tmp_path)
    train(folder, 1, 2)
    path = tmp_path / "run" / EVENTS
    before = path.read_bytes()
    assert scalars(before) == expected(2)
    with path.open("rb") as server:  # TensorBoard's keeps the file open, and reads on
        assert server.read() == before
        train(open_folder(tmp_path, train__epochs=3), 2, 3)
        assert scalars(before + server.read()) == expected(3)
    version, _, start, *_ = events(before)
    assert version.file_version == "brain.Event:2"
    session = HParamsPluginData.FromString(start.summary.value[0].metadata.plugin_data.content).session_start_info
    assert session.hparams["optim.lr"].number_value == pytest.approx(0.001)
    assert session.hparams["data.source"].string_value == "faces"
    assert not any(name.startswith("run.") for name in session.hparams)


def test_tensorboard_in_a_bucket(s3):
    train(open_folder("s3://faces/tracked"), 1, 2)
    train(open_folder("s3://faces/tracked"), 3, 3)
    assert scalars(storage.read(f"s3://faces/tracked/run/{EVENTS}")) == expected(3)


def test_half_an_event_of_a_killed_driver_is_written_again(tmp_path):
    folder = open_folder(tmp_path)
    train(folder, 1, 2)
    path = tmp_path / "run" / EVENTS
    path.write_bytes(path.read_bytes()[:-7])
    train(folder, 3, 3)
    assert scalars(path.read_bytes()) == expected(3)


def test_a_record_without_a_time_counts_too(tmp_path):
    tracker = Tracker(open_folder(tmp_path), ())
    tracker.epoch([{"epoch": 1, "train_loss": 0.5, "val": {"mse": 0.25}}])
    finish(tracker, None)
    ((step, time, values),) = scalars((tmp_path / "run" / EVENTS).read_bytes())
    assert (step, values) == (1, {"train_loss": 0.5, "val/mse": 0.25})
    assert time > 1.7e9


def test_a_disk_that_fails_leaves_a_note_and_what_it_missed_comes_later(tmp_path, capsys):
    folder = open_folder(tmp_path)
    tracker = Tracker(folder, ())
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    tell(tracker, folder, 1, 3)
    tracker.lines[0].thread.submit(lambda: (tmp_path / "run" / "tensorboard").unlink()).result()
    tell(tracker, folder, 4, 4)
    finish(tracker, summary(4))
    assert capsys.readouterr().out.count("note      tensorboard: [Errno 17] File exists") == 1
    assert scalars((tmp_path / "run" / EVENTS).read_bytes()) == expected(4)


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_service_that_is_not_installed_is_an_error_of_the_input(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(InputError, match=rf"--run\.track {kind}: .* pip install 'faceae\[{kind}\]'"):
        Tracker(open_folder(tmp_path), [kind])


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
    train(folder, 1, 2, ["mlflow"])
    run = mlflow_run(mlflow, folder)
    assert mlflow.get_experiment(run.info.experiment_id).name == "faceae"
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["optim.lr"] == "0.001"
    assert run.data.tags["folder"] == folder.uri
    assert run.data.metrics == pytest.approx(
        numbers(2) | {"best_epoch": 2} | {f"best/{name}": value for name, value in record(2)["val"].items()}
    )
    folder = open_folder(tmp_path, train__epochs=4)
    train(folder, 2, 4, ["mlflow"])
    again = mlflow_run(mlflow, folder)
    assert again.info.run_id == run.info.run_id
    assert again.data.params["train.epochs"] == "2"
    assert again.data.tags["train.epochs"] == "4"
    assert mlflow_points(mlflow, run, "val/mse") == [
        (epoch, round(1000 * record(epoch)["time"]), record(epoch)["val"]["mse"]) for epoch in range(1, 5)
    ]
    assert capfd.readouterr() == ("", "")

    mlflow.delete_run(run.info.run_id)  # somebody cleaned up: the next session begins anew, with all epochs
    train(folder, 5, 5, ["mlflow"])
    new = mlflow_run(mlflow, folder)
    assert new.info.run_id != run.info.run_id
    assert len(mlflow_points(mlflow, new, "train_loss")) == 5


def test_mlflow_hears_how_a_run_ended_and_what_grid_it_is_of(tmp_path, mlflow):
    failed, stopped = open_folder(tmp_path, "failed"), open_folder(tmp_path, "stopped")
    trackers = [Tracker(folder, ["mlflow"], "grid") for folder in (failed, stopped)]
    tell(trackers[1], stopped, 1, 1)
    finish(trackers[0], None)
    finish(trackers[1], None, interrupted=True)
    assert mlflow_run(mlflow, failed).info.status == "FAILED"
    assert mlflow_run(mlflow, stopped).info.status == "KILLED"
    assert mlflow_run(mlflow, stopped).info.run_name == "grid/stopped"
    assert mlflow_run(mlflow, stopped).data.tags["group"] == "grid"
    # The failed one has no epoch, and its name was perhaps taken with other settings since.
    train(open_folder(tmp_path, "failed", train__epochs=1), 1, 1, ["mlflow"])
    assert mlflow_run(mlflow, failed).data.params["train.epochs"] == "1"


def test_mlflow_that_fails_in_mid_run_leaves_a_note_and_catches_up(tmp_path, mlflow, capsys):
    def rename(old, new):
        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")

    folder = open_folder(tmp_path)
    tracker = Tracker(folder, ["mlflow"])
    tell(tracker, folder, 1, 1)
    thread = tracker.lines[1].thread
    thread.submit(rename, "metrics", "away").result()
    tell(tracker, folder, 2, 3)
    thread.submit(rename, "away", "metrics").result()
    tell(tracker, folder, 4, 4)
    thread.submit(rename, "metrics", "away").result()
    finish(tracker, summary(4))
    rename("away", "metrics")
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note ")]
    assert first.startswith("note      mlflow: ")
    assert first.endswith("training goes on, and what is missing there is sent after the next epoch")
    assert second.endswith("--run.resume sends what is missing there")
    assert mlflow_run(mlflow, folder).info.status == "RUNNING"
    finish(Tracker(folder, ["mlflow"]), summary(4))
    run = mlflow_run(mlflow, folder)
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in mlflow_points(mlflow, run, "val/mse")] == [1, 2, 3, 4]


def test_mlflow_that_cannot_be_reached_is_an_error_of_the_input(tmp_path, mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:{SECRET}@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"--run\.track mlflow: .*127\.0\.0\.1.*; check MLFLOW_TRACKING_URI") as caught:
        Tracker(open_folder(tmp_path), ["mlflow"])
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """W&B's client, offline, without the settings of whoever runs the tests."""
    package = pytest.importorskip("wandb", reason="W&B is not installed: faceae[wandb]")
    for name in ("WANDB_DIR", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield package
    package.teardown()  # it reads its environment once


def wandb_records(path):
    """The records of W&B's own file: a header, then LevelDB's log format, blocks of 32 KiB with parts of records."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, start, data, found = Path(path).read_bytes(), 7, b"", []
    assert content[:4] == b":W&B"
    while start < len(content):
        if -start % 2**15 < 7:  # too little is left of the block for a part
            start += -start % 2**15
        _, size, kind = struct.unpack_from("<IHB", content, start)
        data += content[start + 7 : start + 7 + size]
        start += 7 + size
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(data))
            data = b""
    return found


def wandb_session(path):
    """Run, rows of the history, summary and exit code of a file."""
    records, rows, final = wandb_records(path), [], {}
    for each in records:
        if each.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in each.history.item}
            rows.append({name: value for name, value in items.items() if not name.startswith("_")})
        for item in each.summary.update:
            final[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    (run,) = [each.run for each in records if each.HasField("run")]
    (end,) = [each.exit.exit_code for each in records if each.HasField("exit")]
    return run, rows, final, end


def test_wandb_keeps_its_files_in_the_run_and_is_quiet(tmp_path, wandb, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    folder, other = open_folder(tmp_path), open_folder(tmp_path, "other")
    tracker, beside = (Tracker(each, ["wandb"], "grid") for each in (folder, other))
    tell(tracker, folder, 1, 3)
    tell(beside, other, 1, 1)
    finish(tracker, summary(2))
    finish(beside, None, interrupted=True)
    wandb.teardown()  # as at the end of the process: W&B's own process has written all of it then
    (path,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    run, rows, final, end = wandb_session(path)
    assert (run.run_id, run.display_name) == (storage.read_json(folder.path("track.json"))["wandb"], "run")
    assert (run.project, run.run_group, end) == ("faceae", "grid", 0)
    configured = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert configured["optim.lr"] == 0.001
    assert configured["folder"] == folder.uri
    assert rows == [{"epoch": epoch, **numbers(epoch)} for epoch in (1, 2, 3)]
    assert final["best_epoch"] == 2
    assert final["best/mse"] == record(2)["val"]["mse"]
    (path,) = (tmp_path / "other" / "wandb").glob("offline-run-*/*.wandb")
    _, rows, _, end = wandb_session(path)
    assert ([row["epoch"] for row in rows], end) == ([1], 255)

    finish(Tracker(folder, ["wandb"]), summary(2))  # continued, with nothing left to train: the new file has all of it
    wandb.teardown()
    sessions = [wandb_session(path) for path in (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")]
    assert sorted({run.run_id for run, *_ in sessions}) == [run.run_id]
    assert [len(rows) for _, rows, *_ in sessions] == [3, 3]
    assert capfd.readouterr() == ("", "")
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


def test_wandb_without_a_key_is_an_error_of_the_input(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(InputError, match=r"--run\.track wandb: .*WANDB_API_KEY.*WANDB_MODE=offline"):
        Tracker(open_folder(tmp_path), ["wandb"])
