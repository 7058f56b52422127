"""One real fault of each kind, as cheap as possible. tests/faults has all of them, on a cluster (`make faults`)."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from processes import kill_session
from runs import ROOT, figures, small

from faceae import config, storage
from faceae.cluster.worker_groups import in_thread
from faceae.drivers.train import train
from faceae.errors import RunFailedError

EPOCHS = 6
"""Long enough to be disturbed after two epochs."""


def settings_of(faces, root, name, **changes):
    return small(faces, root, name, train__epochs=EPOCHS, train__batch_size=2, scale__workers=2, **changes)


@pytest.fixture(scope="module")
def undisturbed(faces, ray_cluster, tmp_path_factory):
    """The results of a run of two workers."""
    root = tmp_path_factory.mktemp("undisturbed")
    train(settings_of(faces, root, "run"))
    return figures(root / "run")


@contextlib.contextmanager
def disturbed(settings):
    """A run that has trained two epochs when this begins, and has ended when it ends."""
    run = in_thread(lambda: train(settings))
    wait_for_epochs(settings, run.done)
    yield run
    run.exception()  # waits for it


def wait_for_epochs(settings, ended):
    lines = storage.join(settings.run.storage, settings.run.name, "metrics.jsonl")
    while not (storage.exists(lines) and len(storage.read_lines(lines)) > 1):
        assert not ended()
        time.sleep(0.02)


def training_workers():
    """Pids of the training workers of this process's Ray, which are the children of its raylet."""
    raylet = ray._private.worker.global_worker.node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    titles = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, title in titles.items() if title.startswith(b"ray::RayTrainWorker")]


def test_a_training_worker_is_killed(faces, undisturbed, tmp_path, capsys):
    with disturbed(settings_of(faces, tmp_path, "run")):
        os.kill(training_workers()[0], signal.SIGKILL)
    assert "a worker was lost; others start" in capsys.readouterr().out
    assert figures(tmp_path / "run") == undisturbed


@pytest.mark.slow
def test_a_driver_is_killed_and_its_last_checkpoint_damaged(faces, undisturbed, tmp_path, capsys):
    settings = settings_of(faces, tmp_path, "run", run__resume=True)
    storage.write_json(str(tmp_path / "run" / "config.json"), config.to_dict(settings))
    flags = ["--run.storage", tmp_path, "--run.name", "run", "--run.resume"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(
        [sys.executable, ROOT / "jobs" / "train.py", *flags],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as job:
        wait_for_epochs(settings, lambda: job.poll() is not None)
        job.kill()
    kill_session(job.pid)  # until they end, its workers may write another checkpoint
    last = sorted(path.parent for path in tmp_path.glob("run/checkpoints/*/progress.json"))[-1]
    with (last / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        end = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([end[0] ^ 1]))
    train(settings)
    assert f"checkpoint {last.name} cannot be used" in capsys.readouterr().out
    assert figures(tmp_path / "run") == undisturbed


@pytest.mark.slow
def test_the_store_is_unreachable_for_three_seconds(faces, undisturbed, seaweed, capsys):
    with disturbed(settings_of(faces, "s3://faces/outage", "run")):
        seaweed.stop()
        time.sleep(3)
        seaweed.start()
    assert "cannot be reached" in capsys.readouterr().out
    assert figures("s3://faces/outage/run") == undisturbed


def fill(path):
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 2**16)


@pytest.mark.slow
def test_a_disk_is_full(faces, undisturbed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        with disturbed(settings_of(faces, disk, "run")) as run:
            fill(disk / "other")
        with pytest.raises(RunFailedError, match=r"No space left on device.*what was saved before is intact"):
            run.result()
        (disk / "other").unlink()
        train(settings_of(faces, disk, "run", run__resume=True))
        assert figures(disk / "run") == undisturbed
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)
