"""A cluster of three nodes, a bucket on a server that can be stopped, runs to disturb, a table of what faults cost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import ray
from pictures import png
from PIL import Image
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.table import Table
from runs import ROOT, figures

from faceae import storage
from faceae.data.synthetic import portrait

IMAGES, BATCH, EPOCHS, WORKERS = 1500, 10, 6, 2
CPUS = 3
"""CPUs of each worker node: enough for both training workers and Ray Data if the other node is lost."""

SAME = 1e-7
"""Largest relative difference of validation errors between two runs that did the same: less than the last digit of a
float32. All workers here compute with one thread, see `one_core`; with another number of threads or of workers, sums
are added up in another order, and training magnifies that: to 3e-2 if it begins with the first
step, in bf16 and in fp32 alike."""

SILENCE_S = 300
"""Seconds without anything new after which a wait fails. It is no limit for what is waited for: on a busy machine each
step takes longer, but there are steps."""

HEADINGS = ("fault", "steps repeated", "seconds to recover", "difference of val mse", "what happened")


@pytest.fixture(scope="session")
def table(request):
    """Returns a function that adds a row for a fault; all rows are printed at the end of the session."""
    rows = []

    def add(fault: str, steps: float | None, seconds: float | None, difference: float | None, what: str) -> None:
        forms = ((steps, ".0f"), (seconds, ".1f"), (difference, ".1e"))
        rows.append([fault, *("" if value is None else format(value, form) for value, form in forms), what])

    yield add
    title = f"{IMAGES} images at 32x32, batch {BATCH}, {EPOCHS} epochs, {WORKERS} training workers on two nodes"
    shown = Table(title=title)
    for number, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="right" if 0 < number < 4 else "left")
    for row in rows:
        shown.add_row(*row)
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        Console(width=150).print("\n", shown)


@pytest.fixture(scope="session")
def cluster(seaweed):
    """A head node that trains nothing, two worker nodes, and images in a bucket."""
    for number in range(IMAGES):
        storage.write(f"s3://faces/images/{number:05}.png", png(Image.fromarray(portrait(number, 32))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # Ray's default is 15: beside another program workers would starve
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            add_node(cluster)
        cluster.wait_for_nodes(SILENCE_S)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextlib.contextmanager
def one_core(number: int) -> Iterator[None]:
    """Gives processes started inside one core of this machine, so that all of them compute with one thread."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def add_node(cluster: Cluster):
    """Adds a worker node that has one core of this machine."""
    with one_core(len(cluster.list_all_nodes())):
        return cluster.add_node(num_cpus=CPUS, object_store_memory=200 * 2**20)


@pytest.fixture
def nodes(cluster):
    """The worker nodes; there are two at the start of each test."""
    workers = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    for node in workers[2:]:
        cluster.remove_node(node)
    for _ in range(2 - len(workers)):
        add_node(cluster)
    cluster.wait_for_nodes(SILENCE_S)
    return [node for node in cluster.list_all_nodes() if node is not cluster.head_node]


class Run:
    """A process of jobs/train.py, started as a user starts it."""

    def __init__(
        self,
        address: str | None,
        log: Path,
        name: str,
        *flags: object,
        runs: str = "s3://faces/runs",
        environment: Mapping[str, str] = MappingProxyType({}),
    ):
        """Starts the run; `environment` is that of all its processes, on all nodes."""
        self.uri, self.log = f"{runs}/{name}", log
        where = ["--run.storage", runs, "--run.name", name]
        ours = {"RAY_ADDRESS": address} if address else {}
        if environment:  # as `ray job submit --runtime-env-json` does
            ours |= {
                **environment,
                "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": environment}}),
            }
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / "train.py"), *where, *map(str, flags)],
            env={**os.environ, **ours},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str) -> re.Match:
        """Waits until a pattern appears in the output, and returns the match."""
        return until(lambda: re.search(pattern, self.text), pattern, self)

    def checkpoints(self) -> list[str]:
        """The names of the complete checkpoints, oldest first."""
        paths = storage.list_files(f"{self.uri}/checkpoints", missing_ok=True)
        return sorted(path.partition("/")[0] for path in paths if path.endswith("progress.json"))

    def wait_for_checkpoint(self, epoch: int, inside: bool = True) -> str:
        """Waits for a checkpoint after `epoch` epochs or more, or inside the epoch that follows them; returns its name.

        On a busy machine one may be deleted before it is seen here, but later ones follow.
        """

        def written():
            names = [name for name in self.checkpoints() if int(name[:5]) >= epoch and ("-" in name) >= inside]
            return names and names[-1]

        return until(written, f"a checkpoint after {epoch} epochs", self)

    def end(self, code: int = 0) -> str:
        """Waits for the process to exit with this code, and returns its output."""
        until(lambda: self.process.poll() is not None, "the end", self, may_end=True)
        assert self.process.returncode == code, self.text
        return self.text

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def until(condition, what: str, run: Run | None = None, may_end: bool = False):
    """Waits until a condition holds, and returns its value.

    Fails when the run has ended and may not, or when its output has not grown for `SILENCE_S`; `what` names the
    condition then.
    """
    heard, size = time.monotonic(), -1
    while not (result := condition()):
        if run and (now := run.log.stat().st_size) > size:
            heard, size = time.monotonic(), now
        assert time.monotonic() < heard + SILENCE_S, (what, run and run.text)
        assert run is None or may_end or run.process.poll() is None, (what, run.text)
        time.sleep(0.05)
    return result


FLAGS = [
    *("--data.source", "s3://faces/images", "--data.image-size", 32, "--mask.size", 8, "--model.latent-dim", 16),
    *("--train.batch-size", BATCH, "--train.epochs", EPOCHS, "--train.checkpoint-minutes", 0.01),
]


@pytest.fixture
def start(cluster, nodes, tmp_path, request):
    """Returns a function that starts a run of two workers, named after the test."""
    started = []

    def start(*flags, workers=WORKERS, name="", address=cluster.address, **options):
        name = name or re.sub(r"\W+", "-", request.node.name).strip("-")
        flags = flags if "--run.resume" in flags else (*FLAGS, "--scale.workers", workers, *flags)
        run = Run(address, tmp_path / f"{len(started)}.log", name, *flags, **options)
        started.append(run)
        return run

    yield start
    for run in started:
        if run.process.poll() is None:
            run.kill()


@pytest.fixture(scope="session")
def undisturbed(cluster, tmp_path_factory):
    """The results of a run without faults, with which all others are compared."""
    log = tmp_path_factory.mktemp("undisturbed") / "log"
    run = Run(cluster.address, log, "undisturbed", *FLAGS, "--scale.workers", WORKERS)
    run.end()
    return figures(run.uri)


def resume(start, **options) -> tuple[Run, float]:
    """Starts a job again that has ended, and returns it and the seconds until it goes on."""
    began = time.monotonic()
    run = start("--run.resume", **options)
    run.wait_for("resumed   in epoch")
    return run, time.monotonic() - began


def difference(run: Run, expected) -> float:
    """Largest relative difference between the validation errors of two runs; each epoch must be there once."""
    got = figures(run.uri)
    assert [row[:2] for row in got] == [row[:2] for row in expected]
    return max(abs(one[3]["mse"] - other[3]["mse"]) / other[3]["mse"] for one, other in zip(got, expected, strict=True))


def recovery(text: str) -> tuple[float, float]:
    """Steps repeated and seconds without a step, as the run's output reports its last interruption."""
    found = re.findall(r"training goes on with .*?(?: \((\d+) images again\))?, ([\d:.]+ \w+) later", text)
    images, seconds = found[-1]
    minutes = re.fullmatch(r"(\d+):(\d+) min", seconds)
    return int(images or 0) / BATCH, 60 * int(minutes[1]) + int(minutes[2]) if minutes else float(seconds.split()[0])


def processes(cluster: Cluster, title: str) -> dict[int, int]:
    """Pids of the cluster's processes whose title starts with `title`, and of their parents: their nodes' raylets."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cmdline").read_bytes().decode(errors="replace").startswith(title):
                found[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return {pid: raylet for pid, raylet in found.items() if raylet in raylets}


def kill(pid: int, how: int = signal.SIGKILL) -> None:
    """Kills a process that may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
