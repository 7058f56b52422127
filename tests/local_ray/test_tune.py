"""Whole grids on a real Ray instance: images are decoded once, trials agree with single runs, nothing stays behind."""

import contextlib
import dataclasses
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import ray
from opened import Opened
from PIL import Image
from processes import assert_no_process_is_left
from ray.util import placement_group_table
from runs import ROOT, assert_same, figures, history, small

import faceae
from faceae import cli
from faceae.config import Settings
from faceae.config.grid import Asha, Grid, GridSettings, Tune
from faceae.drivers.train import train
from faceae.drivers.tune import tune
from faceae.errors import RunFailedError

DIVERGING = "optim.name=sgd,optim.lr=1e30"


def small_grid(source, root, name, *points, **changes) -> GridSettings:
    base = small(source, root, name, **changes)
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return GridSettings(**fields, grid=Grid(points=points), asha=Asha(grace_epochs=1, reduction_factor=2))


@pytest.fixture(scope="module")
def finished(ray_cluster, faces, tmp_path_factory):
    """Five trials of six epochs, two at a time; the last diverges."""
    root = tmp_path_factory.mktemp("grids")
    opened = Opened(faces / "0", faces / "1")
    settings = small_grid(
        *(faces, root, "grid"),
        *("optim.lr=0.01", "optim.lr=0.001", "optim.lr=0.3", "optim.lr=1e-9", DIVERGING.replace("1e30", "1e38")),
        train__epochs=6,
        train__batch_size=2,
    )
    return settings, tune(settings), root / "grid", opened.count()


def test_every_image_is_decoded_once_for_all_trials(finished):
    _, result, folder, opened = finished
    assert len(opened) == 96
    assert set(opened.values()) == {1}
    assert result["cost"]["decoded_images"] == 96
    trained = [json.loads(path.read_text().splitlines()[0])["images"] for path in folder.glob("trials/*/metrics.jsonl")]
    assert trained == [result["counts"]["train"]] * 4


def test_losers_are_pruned_and_a_diverging_trial_fails_with_its_reason(finished):
    _, result, _, _ = finished
    states = Counter(trial["state"] for trial in result["trials"])
    assert states["failed"] == 1
    assert states["pruned"] >= 1
    assert states["finished"] >= 1
    assert sum(states.values()) == 5
    failed = result["trials"][-1]
    assert failed["settings"]["optim.lr"] == 1e38
    assert "loss" in failed["reason"]
    assert "--optim.lr" in failed["reason"]
    for trial in result["trials"]:
        assert (trial["state"] == "finished") == (trial["epochs"] == 6)
    cost = result["cost"]
    assert cost["full_grid_trial_epochs"] == 30
    assert cost["trial_epochs"] == sum(trial["epochs"] for trial in result["trials"])
    pruned = [trial for trial in result["trials"] if trial["state"] == "pruned"]
    assert cost["saved_trial_epochs"] == sum(6 - trial["epochs"] for trial in pruned) > 0


def test_after_a_grid_all_resources_are_free_and_no_actor_is_left(finished):
    ours = {"Coordinator", "Controller", "TrainRun"}
    rays = {"RayTrainWorker", "TrainController", "PlacementGroupCleaner", "SynchronizationActor"}
    deadline = time.monotonic() + 30
    while True:  # Ray takes a moment to remove its actors
        alive = [actor["ActorClassName"] for actor in ray._private.state.actors().values() if actor["State"] == "ALIVE"]
        left = [name for name in alive if name in ours or any(known in name for known in rays)]
        groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
        total, free = ray.cluster_resources(), ray.available_resources()
        held = {
            name for name in total if name in ("CPU", "GPU") or name.startswith("node:") if total[name] != free[name]
        }
        if not left and not groups and not held:
            return
        assert time.monotonic() < deadline, (left, groups, held)
        time.sleep(0.5)


def test_trials_are_ranked_and_all_results_are_written(finished):
    _, result, folder, _ = finished
    ranks = [trial["val"]["mse"] for trial in result["trials"] if trial["val"]]
    assert ranks == sorted(ranks)
    best = result["trials"][0]
    assert result == json.loads((folder / "grid.json").read_text())
    assert len((folder / "grid.csv").read_text().splitlines()) == 6
    table = faceae.grid(str(folder)).table()
    assert table["trial"].tolist() == [trial["trial"] for trial in result["trials"]]
    assert table["mse"].dropna().tolist() == pytest.approx(ranks)
    assert (folder / "model" / "model.safetensors").read_bytes() == (
        folder / "trials" / best["trial"] / "model" / "model.safetensors"
    ).read_bytes()
    assert faceae.load(str(folder / "model")).settings.optim.lr == best["settings"]["optim.lr"]
    assert (folder / "model" / "pca.safetensors").stat().st_size > 10_000
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["val"] == best["val"]
    assert {"black", "mean", "telea", "navier_stokes", "biharmonic", "pca"} == set(summary["baselines"])
    page = (folder / "report" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    for trial in result["trials"]:
        assert f"{trial['settings']['optim.lr']:g}" in page
    assert "stopping early saved" in page
    assert "<b>optim.lr</b> alone explains" in page
    assert Image.open(folder / "report" / "curves.png").width > 1000
    assert Image.open(folder / "report" / "parallel.png").width > 500
    assert Image.open(folder / "report" / "faces.png").height == 4 * 32
    assert Image.open(folder / "report" / "holes.png").height == 4 * 192


def test_the_command_of_the_report_trains_the_best_settings_for_longer(finished):
    settings, result, folder, _ = finished
    page = (folder / "report" / "index.html").read_text()
    command = page.split("<code>faceae train ")[1].split("</code>")[0]
    longer = cli.parse(command.split(), Settings)
    assert longer.train.epochs > settings.train.epochs
    assert longer.optim.lr == result["trials"][0]["settings"]["optim.lr"]
    assert longer.data == settings.data
    assert longer.run.name == "grid-best"


@pytest.mark.slow
def test_a_grid_of_failures_fails_and_leaves_its_table(ray_cluster, faces, tmp_path, monkeypatch):
    """Each trial fails at once, and the group goes on with the next."""
    for check in ("check_network", "check_batch_norm"):  # they would refuse the first
        monkeypatch.setattr(f"faceae.drivers.tune.{check}", lambda *_: None)
    points = ("train.batch_size=1", f"train.loss=bce,{DIVERGING}")
    grid = small_grid(faces, tmp_path, "failing", *points, data__image_size=16)
    began = time.monotonic()
    with pytest.raises(
        RunFailedError, match=r"all 2 trials failed: ValueError: Expected more than 1 value .*; the training loss is no"
    ):
        tune(dataclasses.replace(grid, tune=Tune(concurrent=1)))
    assert time.monotonic() - began < 60
    assert json.loads((tmp_path / "failing" / "grid.json").read_text())["trials"][0]["state"] == "failed"


def command(root, *flags):
    flags = ["--run.name", "killed", "--run.storage", str(root), *map(str, flags)]
    return [sys.executable, str(ROOT / "jobs" / "tune.py"), *flags]


class Screen(threading.Thread):
    """Collects what is written to a terminal."""

    def __init__(self, terminal: int) -> None:
        super().__init__(daemon=True)
        self.terminal, self.text = terminal, ""
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while content := os.read(self.terminal, 2**16):
                self.text += content.decode(errors="replace")


def wait_for(condition, is_running, what):
    while not condition():
        assert is_running(), f"the grid ended before {what}"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine takes several times as long
def test_a_grid_that_is_stopped_and_killed_agrees_with_a_single_run(ray_cluster, faces, tmp_path):
    """The grid gets Ctrl-C in a terminal during its first trial, then SIGKILL during its second, which the processes of
    the first had begun; then it finishes. The second trial must equal a single run of its settings: so its split,
    masks, order and initial weights were the same, too."""
    flags = ["--preset", "demo", "--data.source", faces, "--data.image-size", 32, "--data.val-fraction", 0.2]
    flags += ["--mask.size", 8, "--model.latent-dim", 16, "--train.epochs", 24, "--train.batch-size", 2]
    flags += ["--grid.optim.lr", 0.001, 0.01, "--asha.grace-epochs", 24, "--tune.concurrent", 1]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    first, second = (tmp_path / "killed" / "trials" / name for name in ("1-0.001", "2-0.01"))

    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, command(tmp_path, *flags), environment)
    screen = Screen(terminal)
    wait_for((first / "metrics.jsonl").exists, lambda: os.waitpid(pid, os.WNOHANG)[0] == 0, "its first epoch")
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130, screen.text
    assert_no_process_is_left(pid)
    assert "1-0.001" not in screen.text  # event lines are for logs; a terminal shows the live table
    assert "0.01" in screen.text
    assert "Traceback" not in screen.text
    partial = json.loads((tmp_path / "killed" / "grid.json").read_text())
    assert partial["state"] == "interrupted"
    assert [trial["state"] for trial in partial["trials"]] == ["stopped", "pending"]
    assert not (second / "metrics.jsonl").exists()  # Ray Tune went on to it, but it did not begin
    assert faceae.load(str(tmp_path / "killed" / "model"))
    assert "interrupted" in (tmp_path / "killed" / "report" / "index.html").read_text()

    with subprocess.Popen(
        command(tmp_path, "--run.resume"), env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as job:
        try:
            wait_for((second / "metrics.jsonl").exists, lambda: job.poll() is None, "the second trial")
        finally:
            job.send_signal(signal.SIGKILL)
    with (second / "metrics.jsonl").open("a") as file:  # as if killed before the checkpoint of an epoch
        file.write(json.dumps({**history(second)[-1], "epoch": len(history(second)) + 1}) + "\n")
    kept = (first / "metrics.jsonl").stat().st_mtime

    done = subprocess.run(
        command(tmp_path, "--run.resume"), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (first / "metrics.jsonl").stat().st_mtime == kept  # the finished trial was not trained again
    result = json.loads((tmp_path / "killed" / "grid.json").read_text())
    assert [(trial["state"], trial["epochs"]) for trial in result["trials"]] == [("finished", 24)] * 2
    assert result["cost"]["sessions"] == 3

    train(small(faces, tmp_path, "alone", optim__lr=0.01, train__epochs=24, train__batch_size=2))
    assert_same(figures(second), figures(tmp_path / "alone"), rel=1e-4)
