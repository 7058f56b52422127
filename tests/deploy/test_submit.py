"""Jobs submitted as in the README: from a checkout, with a token, data and runs in a bucket. Part of `make cluster`."""

import re
import subprocess
import time

import pytest
from multinode import until
from pictures import png
from PIL import Image
from rayhead import Head
from runs import ROOT

import faceae
from faceae import storage
from faceae.data.synthetic import portrait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FLAGS = [
    *("--data.source", "s3://faces/submitted", "--data.image-size", 32, "--mask.size", 8, "--model.latent-dim", 16),
    *("--train.batch-size", 8, "--run.storage", "s3://faces/jobs"),
]


@pytest.fixture(scope="module")
def head(s3):
    """`ray start --head` with a token of its own; returns the environment of a user who has the token."""
    for number in range(300):
        storage.write(f"s3://faces/submitted/{number}.png", png(Image.fromarray(portrait(number, 32))))
    with Head() as head:
        head.start_head("--num-cpus=4", RAY_JOB_STOP_WAIT_TIME_S="60")
        time.sleep(3)  # the agent that starts jobs is ready last
        yield head.environment


def submit(head, *arguments, options=()):
    command = ["ray", "job", "submit", "--working-dir", ".", *options, "--", "python", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=head, capture_output=True, text=True, check=False)


def test_submitting_with_a_wrong_token_is_refused(head):
    done = submit({**head, "RAY_AUTH_TOKEN": "another" * 8}, "jobs/train.py")
    assert done.returncode != 0
    assert "token authentication is enabled" in done.stderr


def test_train_streams_its_log_and_writes_its_run_to_the_bucket(head):
    done = submit(head, "jobs/train.py", *FLAGS, "--train.epochs", 2, "--run.name", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^epoch [12]/2 ", done.stdout, re.MULTILINE)) == 2
    assert "Traceback" not in done.stdout
    assert storage.read_json("s3://faces/jobs/train/summary.json")["epochs"] == 2
    assert faceae.load("s3://faces/jobs/train/model")


def test_tune_writes_its_grid_to_the_bucket(head):
    flags = ["--preset", "demo", "--train.epochs", 2, "--run.name", "tune", "--grid.optim.lr", 0.01, 0.001]
    done = submit(head, "jobs/tune.py", *FLAGS, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(storage.read_json("s3://faces/jobs/tune/grid.json")["trials"]) == 2


def test_the_exit_code_of_the_job_is_reported(head):
    done = submit(head, "jobs/train.py", "--optim.name", "nonsense")
    assert done.returncode != 0
    assert "error: " in done.stdout
    assert "exit code 2" in done.stdout + done.stderr


def test_waiting_for_machines_has_a_time_limit(head):
    done = submit(head, "jobs/train.py", *FLAGS, "--scale.workers", 8, "--scale.wait-minutes", 0.05)
    assert done.returncode != 0
    assert re.search(
        r"waiting   for machines, \d\.\d s more \(--scale\.wait-minutes\): --scale\.workers 8: each", done.stdout
    )
    assert "error: --scale.workers 8: each takes a CPU, Ray Data needs another, and the cluster has 4" in done.stdout


def test_a_stopped_job_writes_a_checkpoint_and_can_be_resumed(head):
    flags = [*FLAGS, "--train.epochs", 500, "--run.name", "stopped"]
    assert submit(head, "jobs/train.py", *flags, options=["--no-wait", "--submission-id", "stop-me"]).returncode == 0
    lines = "s3://faces/jobs/stopped/metrics.jsonl"
    until(lambda: storage.exists(lines) and len(storage.read_lines(lines)) > 2, "three epochs")
    stop = subprocess.run(["ray", "job", "stop", "stop-me"], cwd=ROOT, env=head, capture_output=True, text=True)
    assert stop.returncode == 0, stop.stderr
    log = subprocess.run(["ray", "job", "logs", "stop-me"], cwd=ROOT, env=head, capture_output=True, text=True).stdout
    assert "interrupted" in log
    names = sorted({path.partition("/")[0] for path in storage.list_files("s3://faces/jobs/stopped/checkpoints")})
    assert "-" in names[-1], "a checkpoint inside the epoch"
    epochs = int(names[-1].partition("-")[0]) + 2
    again = ["--run.storage", "s3://faces/jobs", "--run.name", "stopped", "--run.resume", "--train.epochs", epochs]
    done = submit(head, "jobs/train.py", *again)
    assert done.returncode == 0, done.stdout
    assert f"resumed   in epoch {epochs - 1}, image {int(names[-1].partition('-')[2])}" in done.stdout
    assert [record["epoch"] for record in storage.read_lines(lines)] == list(range(1, epochs + 1))
