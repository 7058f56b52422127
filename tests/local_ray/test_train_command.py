"""`faceae train` in a process of its own: how it ends when it is killed, and when its input is wrong."""

import os
import signal
import subprocess
import sys
import time

import pytest
from processes import assert_no_process_is_left
from runs import RECIPE, ROOT, assert_same, figures, history, small

from faceae.drivers.train import train


def command(*arguments):
    return [sys.executable, str(ROOT / "jobs" / "train.py"), *map(str, arguments)]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine takes several times as long
def test_a_killed_run_resumes_to_the_same_result(faces, tmp_path, ray_cluster):
    """Kills the driver, and thereby everything that it started, in epoch 2 of 4. With RECIPE, whose checkpoints hold
    more state than the article's."""
    whole = small(faces, tmp_path, "whole", train__epochs=4, train__batch_size=1, **RECIPE)
    flags = ["--run.name", "killed", "--run.storage", str(tmp_path), "--data.source", str(faces)]
    flags += ["--data.image-size", "32", "--data.val-fraction", "0.2", "--mask.size", "8", "--model.latent-dim", "16"]
    flags += ["--train.epochs", "4", "--train.batch-size", "1"]
    for field, value in RECIPE.items():
        flags += [f"--{field.replace('__', '.')}", str(value)]
    metrics_file = tmp_path / "killed" / "metrics.jsonl"
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with subprocess.Popen(command(*flags), env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as job:
        try:
            while not metrics_file.exists():
                assert job.poll() is None, "the run ended before its first epoch"
                time.sleep(0.02)
            time.sleep(0.3)
        finally:
            job.send_signal(signal.SIGKILL)
    assert 1 <= len(history(metrics_file.parent)) < 4
    train(whole)
    resumed = subprocess.run(
        command(*flags[:4], "--run.resume"), env=environment, capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "(continued)" in resumed.stdout
    assert "Traceback" not in resumed.stderr
    assert_same(figures(tmp_path / "killed"), figures(tmp_path / "whole"), rel=1e-4)
    assert_no_process_is_left(job.pid)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data.source", "/no/such/folder"], "/no/such/folder: it does not exist"),
        (["--nonsense"], "--nonsense"),
        (["--data.source", "s3://nobody/here"], "the bucket does not exist"),
        (["--data.source", "synthetic:9", "--run.storage", "s3://nobody/runs"], "the bucket does not exist"),
        (["--data.source", "s3://faces/empty-prefix"], "does not exist"),
    ],
    ids=["folder", "flag", "bucket", "storage", "prefix"],
)
def test_wrong_input_exits_with_2_and_one_line(arguments, words, s3):
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, env={**os.environ, **s3})
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "check the credentials"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "check the credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
    ids=["key", "secret", "endpoint"],
)
def test_wrong_credentials_and_endpoints_exit_with_2(changes, words, s3):
    started = time.monotonic()
    done = subprocess.run(
        command("--data.source", "s3://faces/train"),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **s3, **changes},
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert changes.get("AWS_SECRET_ACCESS_KEY", s3["AWS_SECRET_ACCESS_KEY"]) not in done.stderr
    assert time.monotonic() - started < 60
