"""What a run loses when nodes are killed, preempted or added, the head too. Part of `make faults`."""

import re
import signal
import time
from pathlib import Path

import pytest
import ray
from multinode import CPUS, SAME, WORKERS, add_node, difference, processes, recovery, resume, until
from ray.core.generated import autoscaler_pb2

from faceae import storage

pytest_plugins = ["multinode"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ENDLESS = 10_000
"""Number of epochs of the run during which the cluster grows and shrinks: it is interrupted when it has."""


def training_node(cluster, nodes):
    """One of the nodes that have a training worker; on a busy machine it may have both, see the first test."""
    raylets = processes(cluster, "ray::RayTrainWorker").values()
    return next(node for node in nodes if node.all_processes["raylet"][0].process.pid in raylets)


def wait_for_an_epoch(run):
    """Waits until the run has finished one more epoch."""
    done = run.text.count("\nepoch ")
    until(lambda: run.text.count("\nepoch ") > done, "an epoch", run)


def environment(pid: int) -> list[str]:
    """The environment that a process was started with; empty if the process has gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return []


def test_a_cluster_reads_on_all_its_nodes_and_trains(cluster, nodes, start, undisturbed, table, monkeypatch):
    """The driver's RAY_TRAIN_* variables reach the workers. The result is also compared with that of one node.

    On a busy machine the images may still be read when the training workers are placed. If they leave one node only two
    free CPUs and the other less, Ray's SPREAD puts both workers there, so only one node is asked for.
    """
    monkeypatch.setenv("RAY_TRAIN_SOMETHING", "7")  # after the raylets have started
    run = start()
    raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
    reading, training, informed = set(), {}, set()

    while run.process.poll() is None:
        reading.update(processes(cluster, "ray::ReadFaceSource").values())
        workers = processes(cluster, "ray::RayTrainWorker")
        training |= workers
        informed.update(pid for pid in workers if "RAY_TRAIN_SOMETHING=7" in environment(pid))
    run.end()
    assert reading == raylets
    assert set(training.values()) <= raylets
    assert informed == training.keys()
    assert len(training) == WORKERS
    assert difference(run, undisturbed) < SAME
    alone = start("--scale.workers", 2, name="one-node", address=None)
    alone.end()
    off = difference(alone, undisturbed)
    assert off < SAME
    table("none; one node instead of three", 0, 0, off, "the same masks, order and batches")


def test_a_node_is_killed(cluster, nodes, start, undisturbed, table):
    """Its worker is lost, and so is its share of the decoded images, which are read again."""
    run = start()
    run.wait_for_checkpoint(1)
    cluster.remove_node(training_node(cluster, nodes), allow_graceful=False)
    text = run.end()
    off = difference(run, undisturbed)
    assert off < SAME
    table("a node is killed", *recovery(text), off, "both workers on the other; its images are read again")


def test_a_node_is_killed_with_the_driver(cluster, nodes, start, undisturbed, table):
    run = start()
    run.wait_for_checkpoint(1)
    run.kill()
    cluster.remove_node(nodes[1], allow_graceful=False)
    again, seconds = resume(start)
    again.end()
    off = difference(again, undisturbed)
    assert off < SAME
    table("a node is killed with the driver", None, seconds, off, "the job resubmitted: both workers on the other node")


def test_a_node_is_preempted(cluster, nodes, start, undisturbed, table):
    """Ray is notified two minutes before the node goes, as by the script that watches for the cloud's notice."""
    run = start("--train.checkpoint-minutes", 60)
    run.wait_for("epoch +1/")
    gone = time.time() + 120
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    gcs = ray._private.worker.global_worker.gcs_client
    leaving = training_node(cluster, nodes)
    assert gcs.drain_node(leaving.node_id, reason, "spot", int(gone * 1000))[0]
    run.wait_for("a node will be taken away")
    run.wait_for("training goes on")
    cluster.remove_node(leaving, allow_graceful=False)
    text = run.end()
    steps, seconds = recovery(text)
    assert steps == 0, text
    assert re.search(r"training goes on with 2 workers in epoch \d, image \d+, ", text)
    assert "a worker was lost" not in text
    off = difference(run, undisturbed)
    assert off < SAME
    table("a node is preempted, with notice", steps, seconds, off, "a checkpoint inside the epoch; on the other node")


def test_a_run_grows_and_shrinks_with_the_cluster(cluster, nodes, start, undisturbed, table):
    """The workers leave two CPUs to Ray Data: there is 1 on one node, and there are 4 on two."""
    cluster.remove_node(nodes[1])
    run = start("--train.epochs", ENDLESS, "--train.checkpoint-minutes", 0.1, workers="1:8")
    run.wait_for("epoch +1/")
    assert "1 training worker on CPU" in run.text
    added = add_node(cluster)
    run.wait_for("there is room for more workers")
    run.wait_for(rf"training goes on with {2 * CPUS - 2} workers in epoch")
    steps, seconds = recovery(run.text)
    assert steps == 0
    wait_for_an_epoch(run)
    cluster.remove_node(added, allow_graceful=False)
    run.wait_for(rf"training goes on with {CPUS - 2} worker in epoch")
    wait_for_an_epoch(run)
    run.process.send_signal(signal.SIGINT)
    text = run.end(130)
    records = storage.read_lines(f"{run.uri}/metrics.jsonl")
    assert [record["epoch"] for record in records] == list(range(1, len(records) + 1))
    assert {record["images"] for record in records} == {undisturbed[0][1]}
    table("the run grows, 1 to 4 workers", steps, seconds, None, "at a checkpoint made for it")
    table("the run shrinks, 4 workers to 1: a node is killed", *recovery(text), None, "all images, once an epoch")
