"""What Weights & Biases gets of a run, read back from its offline files."""

import json
import struct
from pathlib import Path

import pytest
from tracked import SECRET, finish, numbers, open_folder, record, send, summary

from faceae import storage
from faceae.errors import InputError
from faceae.tracking import Tracker


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """W&B's client, offline, and without the settings of the user who runs the tests."""
    package = pytest.importorskip("wandb", reason="W&B is not installed: faceae[wandb]")
    for name in ("WANDB_DIR", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield package
    package.teardown()  # it reads its environment only once


def wandb_records(path):
    """The records of W&B's own file: a header, then LevelDB's log format (blocks of 32 KiB with parts of records)."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, start, data, found = Path(path).read_bytes(), 7, b"", []
    assert content[:4] == b":W&B"
    while start < len(content):
        if -start % 2**15 < 7:  # the rest of the block is too small for a part
            start += -start % 2**15
        _, size, kind = struct.unpack_from("<IHB", content, start)
        data += content[start + 7 : start + 7 + size]
        start += 7 + size
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(data))
            data = b""
    return found


def wandb_session(path):
    """The run, the rows of the history, the summary and the exit code in a file."""
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


def test_wandb_keeps_its_files_in_the_run_and_prints_nothing(tmp_path, wandb, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    folder, other = open_folder(tmp_path), open_folder(tmp_path, "other")
    tracker, second = (Tracker(each, ["wandb"], "grid") for each in (folder, other))
    send(tracker, folder, 1, 3)
    send(second, other, 1, 1)
    finish(tracker, summary(2))
    finish(second, None, interrupted=True)
    wandb.teardown()  # as at the end of the process: W&B's own process has then written everything
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

    finish(Tracker(folder, ["wandb"]), summary(2))  # resumed with nothing left to train: the new file has all epochs
    wandb.teardown()
    sessions = [wandb_session(path) for path in (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")]
    assert sorted({run.run_id for run, *_ in sessions}) == [run.run_id]
    assert [len(rows) for _, rows, *_ in sessions] == [3, 3]
    assert capfd.readouterr() == ("", "")
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


def test_wandb_without_a_key_is_an_input_error(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(InputError, match=r"--run\.track wandb: .*WANDB_API_KEY.*WANDB_MODE=offline"):
        Tracker(open_folder(tmp_path), ["wandb"])
