"""What faults cost a run: real processes are killed, a real server is stopped. Part of `make faults`."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import ray
from multinode import BATCH, CPUS, difference, processes, recovery, until
from ray.core.generated import autoscaler_pb2

from faceae import storage

pytest_plugins = ["multinode"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = 30
"""Number of epochs of the run during which the cluster grows and shrinks."""

SAME = 1e-7
"""Largest relative difference between two runs with the same number of workers: floating-point noise."""


def environment(pid: int) -> list[str]:
    """The environment that a process was started with; empty if the process has gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return []


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_cluster_reads_and_trains_on_all_its_nodes(nodes, start, undisturbed, table, monkeypatch):
    """The driver's RAY_TRAIN_* variables reach the workers. The result is also compared with that of one node."""
    monkeypatch.setenv("RAY_TRAIN_SOMETHING", "7")  # after the raylets have started
    run = start()
    raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
    reading, training, informed = set(), set(), set()

    def everywhere():
        reading.update(processes("ray::ReadFaceSource").values())
        workers = processes("ray::RayTrainWorker")
        training.update(workers.values())
        informed.update(workers[pid] for pid in workers if "RAY_TRAIN_SOMETHING=7" in environment(pid))
        return raylets <= reading and raylets <= training and raylets <= informed

    until(everywhere, "reading and training on both nodes", 120, run)
    run.end()
    assert difference(run, undisturbed) < SAME
    alone = start("--scale.workers", 2, name="one-node", address=None)
    alone.end()
    off = difference(alone, undisturbed)
    assert off < 1e-3
    table("none; one node instead of three", 0, 0, off, "the same masks, order and batches")


def test_a_training_worker_is_killed(start, undisturbed, table):
    run = start()
    run.wait_for_checkpoint(1)
    kill(next(iter(processes("ray::RayTrainWorker"))))
    text = run.end()
    assert "a worker was lost" in text
    off = difference(run, undisturbed)
    assert off < SAME
    table("a training worker is killed", *recovery(text), off, "others start, on the same nodes")


def test_a_node_is_killed(cluster, nodes, start, undisturbed, table):
    """Its worker is lost, and so is its share of the decoded images, which are read again."""
    run = start()
    run.wait_for_checkpoint(1)
    cluster.remove_node(nodes[1], allow_graceful=False)
    text = run.end()
    off = difference(run, undisturbed)
    assert off < 1e-3  # two workers on one node use a different number of threads
    table("a node is killed", *recovery(text), off, "both workers on the other; its images are read again")


def test_the_driver_is_killed_and_the_run_resumed(start, undisturbed, table):
    run = start()
    name = run.wait_for_checkpoint(1)
    run.kill()
    killed = time.monotonic()
    again = start("--run.resume")
    image = int(again.wait_for(r"resumed   in epoch \d+(?:, image (\d+))?")[1] or 0)
    seconds = time.monotonic() - killed
    again.end()
    off = difference(again, undisturbed)
    assert off < SAME
    assert image >= int(name.partition("-")[2]) or "resumed   in epoch 3" in again.text
    table("the driver is killed, the job resubmitted", None, seconds, off, "from the last checkpoint, inside the epoch")


def test_data_workers_are_killed(nodes, start, undisturbed, table):
    """Some are killed while they read images, others while they draw masks."""
    run = start()
    killed = 0
    for title, times in (("ray::ReadFaceSource", 2), ("ray::ReadRange->MapBatches(draw_masks)", 3)):
        if killed:  # warm processes draw these masks within milliseconds; new ones have to import first
            run.wait_for("decoded ")
            raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
            for pid in [pid for pid, raylet in processes("ray::IDLE").items() if raylet in raylets]:
                with contextlib.suppress(ProcessLookupError):
                    kill(pid)
        for _ in range(times):
            pid = until(lambda title=title: next(iter(processes(title)), None), title, 120, run)
            with contextlib.suppress(ProcessLookupError):
                kill(pid)
                killed += 1
    run.end()
    off = difference(run, undisturbed)
    assert off < SAME
    table(f"{killed} Ray Data workers are killed", 0, None, off, "Ray repeats their tasks; training does not notice")


@pytest.mark.parametrize("when", ["reading", "checkpoint"])
def test_the_store_is_unreachable_for_20_seconds(seaweed, start, undisturbed, table, when):
    run = start()
    if when == "reading":
        until(lambda: processes("ray::ReadFaceSource"), "reading", 120, run)
    else:
        run.wait_for_checkpoint(1)
    seaweed.stop()
    stopped = time.monotonic()
    try:
        time.sleep(20)
    finally:
        seaweed.start()
    if when == "reading":
        run.wait_for("decoded ")
    else:
        run.wait_for_checkpoint(2, inside=False)
        assert "cannot be reached; check AWS_ENDPOINT_URL and the network; trying again" in run.text
    seconds = time.monotonic() - stopped - 20
    text = run.end()
    off = difference(run, undisturbed)
    assert off < SAME
    assert "a worker was lost" not in text
    table(f"the S3 server is unreachable for 20 s, {when}", 0, seconds, off, "requests are retried for two minutes")


def test_a_bucket_refuses_writes(seaweed, start, undisturbed, table):
    run = start()
    run.wait_for_checkpoint(1)
    seaweed.stop()
    seaweed.start(actions=("Read", "List"))
    try:
        text = run.end(code=1)
    finally:
        seaweed.stop()
        seaweed.start()
    last = text.strip().splitlines()[-1]
    assert re.search(r"^failed: s3://faces/runs/.*access is denied.*what was saved before is intact", last), text
    again = start("--run.resume")
    again.end()
    assert "cannot be used" not in again.text
    off = difference(again, undisturbed)
    assert off < SAME
    table("the bucket refuses writes", None, None, off, "one clear line, exit 1; resumed once it is fixed")


def test_a_disk_is_full(start, undisturbed, table, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        run = start(name="full", runs=str(disk))
        run.wait_for_checkpoint(0)
        with contextlib.suppress(OSError), (disk / "other").open("wb") as file:
            while True:
                file.write(b"0" * 2**16)
        last = run.end(code=1).strip().splitlines()[-1]
        assert re.search(rf"^failed: {disk}/full: .*No space left on device.*what was saved before is intact", last), (
            last
        )
        (disk / "other").unlink()
        again = start("--run.resume", name="full", runs=str(disk))
        again.end()
        off = difference(again, undisturbed)
        assert off < SAME
        table("the disk is full", None, None, off, "one clear line, exit 1; resumed when there is room")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)


@pytest.mark.parametrize("damage", ["half-written", "corrupted"])
def test_a_checkpoint_is_damaged(start, undisturbed, table, damage):
    run = start()
    run.wait_for_checkpoint(2, inside=False)
    run.wait_for_checkpoint(2)
    run.kill()
    uri = f"{run.uri}/checkpoints"
    names = sorted({path.partition("/")[0] for path in storage.list_files(uri) if path.endswith("progress.json")})
    last = f"{uri}/{names[-1]}"
    if damage == "half-written":
        storage.delete(f"{last}/progress.json")
    else:
        content = bytearray(storage.read(f"{last}/model.safetensors"))
        content[len(content) // 2] ^= 1
        storage.write(f"{last}/model.safetensors", bytes(content))
    again = start("--run.resume")
    text = again.end()
    assert f"checkpoint {names[-1]} cannot be used" in text
    off = difference(again, undisturbed)
    assert off < SAME
    before, after = (int(name.partition("-")[2] or 0) for name in names[-2:])
    steps = (after - before) / BATCH if after > before else None
    table(f"the last checkpoint is {damage}", steps, None, off, "it is named; the one before is used")


def test_a_node_is_preempted(cluster, nodes, start, undisturbed, table):
    """Ray is notified 30 s before the node goes, as by the script that watches for the cloud's notice."""
    run = start("--train.checkpoint-minutes", 60)
    run.wait_for("epoch 1/")
    time.sleep(1)
    gone = time.time() + 30
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    gcs = ray._private.worker.global_worker.gcs_client
    assert gcs.drain_node(nodes[1].node_id, reason, "spot", int(gone * 1000))[0]
    run.wait_for("a node will be taken away")
    while time.time() < gone and run.process.poll() is None:
        time.sleep(0.2)
    cluster.remove_node(nodes[1], allow_graceful=False)
    text = run.end()
    steps, seconds = recovery(text)
    assert steps == 0, text
    assert re.search(r"training goes on with 2 workers in epoch \d, image \d+, ", text)
    assert "a worker was lost" not in text
    off = difference(run, undisturbed)
    assert off < 1e-3
    table("a node is preempted, with notice", steps, seconds, off, "a checkpoint inside the epoch; on the other node")


def test_a_run_grows_and_shrinks_with_the_cluster(cluster, nodes, start, undisturbed, table):
    """The workers leave two CPUs to Ray Data: there is 1 on one node, and there are 4 on two."""
    cluster.remove_node(nodes[1])
    run = start("--train.epochs", LONG, "--train.checkpoint-minutes", 0.1, workers="1:8")
    run.wait_for("epoch +1/")
    assert "1 training worker on CPU" in run.text
    added = cluster.add_node(num_cpus=CPUS, object_store_memory=200 * 2**20)
    run.wait_for("there is room for more workers")
    run.wait_for(rf"training goes on with {2 * CPUS - 2} workers in epoch")
    steps, seconds = recovery(run.text)
    assert steps == 0
    done = len(re.findall(r"^epoch ", run.text, re.MULTILINE))
    until(lambda: len(re.findall(r"^epoch ", run.text, re.MULTILINE)) > done, "an epoch of four workers", 120, run)
    cluster.remove_node(added, allow_graceful=False)
    text = run.end()
    assert re.search(rf"training goes on with {CPUS - 2} worker in epoch", text)
    records = storage.read_lines(f"{run.uri}/metrics.jsonl")
    assert [record["epoch"] for record in records] == list(range(1, LONG + 1))
    assert {record["images"] for record in records} == {undisturbed[0][1]}
    table("the run grows, 1 to 4 workers", steps, seconds, None, "at a checkpoint made for it")
    table("the run shrinks, 4 workers to 1: a node is killed", *recovery(text), None, "all images, once an epoch")
