"""What TensorBoard gets of a run, read back from its event file, and what all services have in common."""

import struct
import subprocess
import sys
import threading
import time

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tracked import call, finish, numbers, open_folder, run_session, send, summary

from faceae import storage, tracking
from faceae.errors import InputError
from faceae.tracking import Tracker

EVENTS = "tensorboard/events.out.tfevents.faceae"


def events(content):
    """Returns the events of a file, after verifying their checksums."""
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
    """Returns the step, time and values of each point."""
    return [
        (event.step, event.wall_time, {value.tag: value.simple_value for value in event.summary.value})
        for event in events(content)
        if event.step
    ]


def expected(last):
    epochs = range(1, last + 1)
    return [(epoch, 1.7e9 + 60 * epoch, pytest.approx(numbers(epoch), rel=1e-6)) for epoch in epochs]


def test_tensorboard_reads_every_epoch_once_however_often_a_run_is_resumed(tmp_path):
    folder = open_folder(tmp_path)
    run_session(folder, 1, 2)
    path = tmp_path / "run" / EVENTS
    before = path.read_bytes()
    assert scalars(before) == expected(2)
    with path.open("rb") as server:  # TensorBoard's server keeps the file open and reads on
        assert server.read() == before
        run_session(open_folder(tmp_path, train__epochs=3), 2, 3)
        assert scalars(before + server.read()) == expected(3)
    version, _, start, *_ = events(before)
    assert version.file_version == "brain.Event:2"
    session = HParamsPluginData.FromString(start.summary.value[0].metadata.plugin_data.content).session_start_info
    assert session.hparams["optim.lr"].number_value == pytest.approx(0.001)
    assert session.hparams["data.source"].string_value == "faces"
    assert not any(name.startswith("run.") for name in session.hparams)


def test_tensorboard_events_are_written_to_a_bucket(s3):
    run_session(open_folder("s3://faces/tracked"), 1, 2)
    run_session(open_folder("s3://faces/tracked"), 3, 3)
    assert scalars(storage.read(f"s3://faces/tracked/run/{EVENTS}")) == expected(3)


def test_an_event_cut_off_by_a_killed_driver_is_written_again(tmp_path):
    folder = open_folder(tmp_path)
    run_session(folder, 1, 2)
    path = tmp_path / "run" / EVENTS
    path.write_bytes(path.read_bytes()[:-7])
    run_session(folder, 3, 3)
    assert scalars(path.read_bytes()) == expected(3)


def test_a_record_without_a_time_is_sent_too(tmp_path):
    tracker = Tracker(open_folder(tmp_path), ())
    tracker.epoch([{"epoch": 1, "train_loss": 0.5, "val": {"mse": 0.25}}])
    finish(tracker, None)
    ((step, time, values),) = scalars((tmp_path / "run" / EVENTS).read_bytes())
    assert (step, values) == (1, {"train_loss": 0.5, "val/mse": 0.25})
    assert time > 1.7e9


def test_a_failing_disk_leaves_a_note_and_gets_the_missing_records_later(tmp_path, capsys):
    folder = open_folder(tmp_path)
    tracker = Tracker(folder, ())
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    send(tracker, folder, 1, 3)
    call(tracker.channels[0], (tmp_path / "run" / "tensorboard").unlink)
    send(tracker, folder, 4, 4)
    finish(tracker, summary(4))
    assert capsys.readouterr().out.count("note      tensorboard: [Errno 17] File exists") == 1
    assert scalars((tmp_path / "run" / EVENTS).read_bytes()) == expected(4)


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_service_that_is_not_installed_is_an_input_error(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(InputError, match=rf"--run\.track {kind}: .* pip install 'faceae\[{kind}\]'"):
        Tracker(open_folder(tmp_path), [kind])


class Silent:
    """A service behind a server that accepts connections and never answers."""

    def __init__(self):
        self.answer, self.asked = threading.Event(), []

    def sync(self, history):
        self.asked.append(len(history))
        self.answer.wait()

    def end(self, history, summary, interrupted):
        self.asked.append("end")


def test_a_service_that_never_answers_does_not_hold_up_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "END_S", 0.3)
    folder, silent = open_folder(tmp_path), Silent()
    tracker = Tracker(folder, ())
    tracker.channels.append(tracking._Channel("silent", silent))
    send(tracker, folder, 1, 50)
    began = time.monotonic()
    finish(tracker, summary(50))
    assert time.monotonic() - began < 2
    said = " ".join(capsys.readouterr().out.split())
    assert "silent: no answer within 0 s; it may lack the last 50 epochs and the run's end; --run.resume" in said
    assert scalars((tmp_path / "run" / EVENTS).read_bytes()) == expected(50)
    assert len(silent.asked) == 1
    silent.answer.set()
    tracker.channels[1].thread.join()
    assert silent.asked[-2:] == [50, "end"]  # each call sends everything that is missing
    assert len(silent.asked) <= 4


def test_a_service_that_never_answers_does_not_keep_the_process_alive():
    code = (
        "import time; from faceae import tracking; tracking.END_S = 0.1\n"
        "class Silent:\n    def sync(self, history): time.sleep(60)\n"
        "channel = tracking._Channel('silent', Silent())\n"
        "channel.sync([]); channel.end([], None, False); channel.close()"
    )
    said = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True, check=True)
    assert "it may lack the run's end" in said.stdout.replace("\n", " ")
