"""What faults of processes cost a run: training workers, data workers and drivers are killed. Part of `make faults`."""

import signal
import time
from pathlib import Path

import pytest
from multinode import SAME, difference, kill, processes, recovery, resume, until

pytest_plugins = ["multinode"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_training_worker_is_killed(cluster, start, undisturbed, table):
    run = start()
    run.wait_for_checkpoint(1)
    kill(next(iter(processes(cluster, "ray::RayTrainWorker"))))
    text = run.end()
    assert "a worker was lost" in text
    off = difference(run, undisturbed)
    assert off < SAME
    table("a training worker is killed", *recovery(text), off, "others start, on the same nodes")


def test_a_training_worker_hangs(cluster, start, undisturbed, table):
    """It is stopped, not killed: the other worker waits for it in every step until Ray Train gives it up."""
    run = start()
    run.wait_for_checkpoint(1)
    hanging = next(iter(processes(cluster, "ray::RayTrainWorker")))
    kill(hanging, signal.SIGSTOP)
    text = run.end()
    assert "a worker was lost" in text
    assert not Path(f"/proc/{hanging}").exists()
    off = difference(run, undisturbed)
    assert off < SAME
    table("a training worker hangs", *recovery(text), off, "after a minute without an answer it is killed")


def test_a_training_worker_is_killed_while_the_store_is_unreachable(cluster, seaweed, start, undisturbed, table):
    run = start()
    run.wait_for_checkpoint(1)
    seaweed.stop()
    try:
        kill(next(iter(processes(cluster, "ray::RayTrainWorker"))))
        run.wait_for("a worker was lost")
        time.sleep(20)
    finally:
        seaweed.start()
    text = run.end()
    off = difference(run, undisturbed)
    assert off < SAME
    table("a worker is killed, S3 unreachable for 20 s", *recovery(text), off, "the new workers wait for the server")


def test_the_driver_is_killed_and_the_run_resumed(start, undisturbed, table):
    run = start()
    name = run.wait_for_checkpoint(1)
    run.kill()
    again, seconds = resume(start)
    epoch, image = again.wait_for(r"resumed   in epoch (\d+)(?:, image (\d+))?").groups(default="0")
    again.end()
    off = difference(again, undisturbed)
    assert off < SAME
    assert (int(epoch) - 1, int(image)) >= tuple(map(int, name.split("-")))
    table("the driver is killed, the job resubmitted", None, seconds, off, "from the last checkpoint, inside the epoch")


def test_data_workers_are_killed(cluster, start, undisturbed, table):
    """Some are killed while they read images, others while they draw masks."""
    run = start()
    killed = 0
    for title, times in (("ray::ReadFaceSource", 2), ("ray::ReadRange->MapBatches(draw_masks)", 3)):
        if killed:  # warm processes draw these masks within milliseconds; new ones have to import first
            run.wait_for("decoded ")
            for pid in processes(cluster, "ray::IDLE"):
                kill(pid)
        for _ in range(times):
            kill(until(lambda title=title: next(iter(processes(cluster, title)), None), title, run))
            killed += 1
    run.end()
    off = difference(run, undisturbed)
    assert off < SAME
    table(f"{killed} Ray Data workers are killed", 0, None, off, "Ray repeats their tasks; training does not notice")
