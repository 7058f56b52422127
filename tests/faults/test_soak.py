"""A run that is killed again and again, with its images counted. `make soak`; SOAK_KILLS says how often."""

import json
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import psutil
import pytest
from multinode import IMAGES, SAME, add_node, difference, kill, processes, until
from runs import ROOT, figures
from safetensors.numpy import load

from faceae import storage

pytest_plugins = ["multinode"]
KILLS = int(os.environ.get("SOAK_KILLS", "0"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(4 * 60 * 60),
    pytest.mark.skipif(not KILLS, reason="make soak runs it"),
]

EPOCHS = 6 + KILLS
"""More than pass between the kills: from each to the next, training goes on until it has written a checkpoint. What is
left after the last kill is cut short."""

KINDS = ("training worker", "idle worker", "node", "driver", "coordinator", "driver, then a Ray Data worker")


class Killer:
    """Kills something of a run, at random but in the same order every time, and starts the job again if it ended."""

    def __init__(self, cluster, start, environment):
        self.cluster, self.random, self.killed = cluster, random.Random(0), Counter()
        self.start = lambda *flags: start(*flags, environment=environment)
        self.run = self.start("--train.epochs", EPOCHS)

    def kill(self, kind: str) -> None:
        self.killed[kind] += 1
        if kind == "node":
            nodes = [node for node in self.cluster.list_all_nodes() if node is not self.cluster.head_node]
            self.cluster.remove_node(self.random.choice(nodes), allow_graceful=False)
            add_node(self.cluster)
        elif kind == "coordinator":
            self.run.wait_for(r"(?m)^(resumed|epoch) ")  # that of a killed driver may linger
            kill(max(processes(self.cluster, "ray::Coordinator"), key=lambda pid: psutil.Process(pid).create_time()))
            self.run.end(code=1)
            self.run = self.start("--run.resume")
        elif kind.startswith("driver"):
            self.restart()
            if kind != "driver":
                self.kill_process("ray::ReadFaceSource")
        else:
            self.kill_process({"training worker": "ray::RayTrainWorker", "idle worker": "ray::IDLE"}[kind])

    def restart(self, *flags: object) -> None:
        self.run.kill()
        self.run = self.start("--run.resume", *flags)

    def kill_process(self, title: str) -> None:
        pids = until(lambda: list(processes(self.cluster, title)), title, self.run)
        kill(self.random.choice(pids))

    def wait_for_checkpoint(self, after: str) -> str:
        return until(lambda: next((each for each in self.run.checkpoints() if each > after), ""), after, self.run)


def steps(folder: Path) -> tuple[dict, int]:
    """The digests of the images of each step that counts, by (epoch, images before, rank), and how often one was
    repeated. A step is repeated from a checkpoint before it, and what the last repetition did is what counts."""
    counted, repeated = {}, 0
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        for line in path.read_text().splitlines():
            try:
                rank, epoch, images, digests = json.loads(line)
            except ValueError:  # the process was killed while it wrote the last line
                continue
            repeated += rank == 0 and (epoch, images, 0) in counted
            counted[epoch, images, rank] = digests
    return counted, repeated


def weights(run) -> dict:
    return load(storage.read(f"{run.uri}/checkpoints/{run.checkpoints()[-1]}/model.safetensors"))


def test_a_run_that_is_killed_again_and_again_sees_every_image_once_an_epoch(cluster, nodes, start, tmp_path, capsys):
    folder = tmp_path / "steps"
    folder.mkdir()
    killer = Killer(
        cluster, start, {"PYTHONPATH": f"{ROOT}/tests/helpers/recorded:{ROOT}", "RECORDED_STEPS": str(folder)}
    )
    last = ""
    for number in range(KILLS):
        last = killer.wait_for_checkpoint(last)
        killer.kill(KINDS[number] if number < len(KINDS) else killer.random.choice(KINDS))
    epochs = int(killer.wait_for_checkpoint(last)[:5]) + 3
    killer.restart("--train.epochs", epochs)
    killer.run.end()
    whole = start("--train.epochs", epochs, name="whole")
    whole.end()
    counted, repeated = steps(folder)
    seen = defaultdict(Counter)
    for (epoch, *_), digests in counted.items():
        seen[epoch].update(digests)
    images = {record["images"] for record in storage.read_lines(f"{killer.run.uri}/metrics.jsonl")}
    off = difference(killer.run, figures(whole.uri))
    one, other = weights(killer.run), weights(whole)
    apart = max(float(abs(one[name] - other[name]).max()) for name in other)
    twice = sum(sum(count > 1 for count in epoch.values()) for epoch in seen.values())
    never = sum(len(seen[1].keys() | epoch.keys()) - len(epoch) for epoch in seen.values())
    with capsys.disabled():
        print(f"\n{IMAGES} images, {epochs} epochs, {sum(killer.killed.values())} kills")
        for kind in KINDS:
            print(f"{killer.killed[kind]:8}  {kind}")
        print(f"{repeated:8}  steps repeated\n{twice:8}  images seen twice in an epoch\n{never:8}  never")
        print(f"{off:8.1e}  largest relative difference of val mse\n{apart:8.1e}  largest difference of a weight")
    assert sorted(seen) == list(range(1, epochs + 1))
    assert images == {len(seen[1])}
    assert twice == never == 0
    assert off < SAME
    assert apart < SAME
