"""Counts what a run does on 8 and 16 nodes, which one machine can pretend to be, and times eight of them.

    python -m bench.scale              # about 8 minutes on two cores
    python -m bench.scale --nodes 4

Each node is a raylet of Ray's cluster_utils with an object store of its own, 8 pretended CPUs (4 where there are 16
nodes) and one pretended GPU; a process on each takes the batches of one rank, as a training worker does, and trains
nothing. The images are noise, as Parquet of decoded pixels, in 15 blocks for each node, as FFHQ has on 8 nodes.

What is counted does not depend on the machine: bytes that reach a node in the second and third epoch, as a multiple of
its share of the images (objects that its store received or made, which includes the masks drawn there, and rows that
other ranks sent); tasks that draw masks at the same time, for the run and on the node with the fewest; Ray Data
executors; references that the driver holds for a grid of 100 trials.

What is timed is the overhead of distribution: images/s of later epochs with one node and one rank, and with eight, on
the same cores. Here a node has two CPUs, since each of Ray's idle processes costs a little, and blocks have the usual
512 images. A real network is not in it. Prints tables and writes bench/scale.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from rich.table import Table

from bench.machine import describe
from bench.pretended import LAST, SIZE, epochs, pretended
from faceae.claim import Claim
from faceae.cluster.protocol import RunSpec
from faceae.cluster.worker_groups import in_thread
from faceae.config import Settings
from faceae.console import out
from faceae.data.dataset import FaceDataset
from faceae.data.reader import block_rows, image_bytes

RESULTS = Path(__file__).with_name("scale.json")
COUNTED, TIMED = 4096, 16_384
"""Numbers of images. Those that are timed are more than the 10,900 within which images are shuffled."""

CPUS, BLOCKS_PER_NODE, ROWS = 8, 15, block_rows(SIZE)
MAX_CPUS = 64  # a process for each of them takes 0.2 GB
EPOCHS = LAST - 4
TRIALS = 100


def main() -> None:
    """Counts on the chosen numbers of nodes, times one and eight, prints tables and writes bench/scale.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", nargs="+", type=int, default=[1, 8, 16], help="numbers of nodes (1 8 16)")
    rows = [count(nodes) for nodes in parser.parse_args().nodes]
    rates = {nodes: speed(nodes) for nodes in (1, 8)}
    table = Table(title=f"{COUNTED:,} images of {SIZE}x{SIZE}; {describe()}", box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    ratio = rates[8] / rates[1]
    out.print(table)
    out.print(
        f"\n{TIMED:,} images, later epochs: {rates[1]:,.0f} images/s on one node, {rates[8]:,.0f} on eight: {ratio:.2f}"
    )
    content = {"machine": describe(), "rows": rows, "images_per_second": rates, "eight_nodes_vs_one": ratio}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    out.print(f"\nwritten to {RESULTS}")


def count(nodes: int) -> dict[str, Any]:
    """Counts on a cluster of some nodes."""
    cpus = min(CPUS, MAX_CPUS // nodes)
    out.print(f"scale     {nodes} nodes of {cpus} CPUs and a GPU, all of them pretended")
    with pretended(nodes, cpus, COUNTED, COUNTED // (nodes * BLOCKS_PER_NODE)) as run:
        with _sampled(_executors) as executors:
            before = _store_bytes(run.ids)
            rows = epochs(run.ranks, 2)
            pulled = [after - start for after, start in zip(_store_bytes(run.ids), before, strict=True)]
            epochs(run.ranks, EPOCHS)
        share = 2 * len(run.dataset.train) * image_bytes(SIZE) / nodes
        at_once, on_a_node = _overlaps(run.log, run.ids)
        return {
            "nodes": nodes,
            "cpus_of_a_node": cpus,
            "bytes_vs_share": max(got + sent for got, sent in zip(pulled, rows, strict=True)) / share,
            "mask_tasks_at_once": at_once,
            "mask_tasks_at_once_on_a_node": on_a_node,
            "executors": max(executors),
            "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "refs_for_100_trials": _references(run.dataset, run.coordinator),
        }


def speed(nodes: int) -> float:
    """Returns the images/s of later epochs, on all nodes together."""
    out.print(f"scale     {nodes} nodes of 2 CPUs and a GPU: images/s")
    with pretended(nodes, 2, TIMED, ROWS) as run:
        epochs(run.ranks, 3)
        started = time.perf_counter()
        epochs(run.ranks, EPOCHS)
        return EPOCHS * len(run.dataset.train) / (time.perf_counter() - started)


def _store_bytes(ids: list[str]) -> list[int]:
    """Returns the bytes of all objects that each node's store has ever received or made."""
    from ray._private.internal_api import node_stats

    nodes = {node["NodeID"]: node for node in ray.nodes()}
    return [
        node_stats(
            nodes[node]["NodeManagerAddress"], nodes[node]["NodeManagerPort"], include_memory_info=False
        ).store_stats.cumulative_created_bytes
        for node in ids
    ]


def _executors() -> int:
    """Returns the number of Ray Data executors that share the cluster at this moment."""
    coordinator = ray.get_actor("AutoscalingCoordinator", namespace="AutoscalingCoordinator")
    there: int = ray.get(coordinator.__ray_call__.remote(lambda self: len(self._ongoing_reqs)))
    return there


@contextmanager
def _sampled(measure: Any) -> Iterator[list[int]]:  # noqa: ANN401
    """Calls a function again and again in a thread; yields the list of its results."""
    values, stop = [measure()], threading.Event()

    def sample() -> None:
        while not stop.wait(0.02):
            values.append(measure())

    sampling: Future[None] = in_thread(sample)
    try:
        yield values
    finally:
        stop.set()
        sampling.result()


def _overlaps(log: Path, ids: list[str]) -> tuple[int, int]:
    """Returns how many tasks drew masks at the same time: in the cluster, and on the node with the lowest maximum."""
    tasks = [line.split() for file in log.iterdir() for line in file.read_text().splitlines()]
    spans = [(float(start), float(end), node) for start, end, node in tasks]
    return _overlap(spans), min(_overlap([span for span in spans if span[2] == node]) for node in ids)


def _overlap(spans: list[tuple[float, float, str]]) -> int:
    changes = sorted([(start, 1) for start, _, _ in spans] + [(end, -1) for _, end, _ in spans])
    return int(max(np.cumsum([change for _, change in changes]), default=0))


def _references(dataset: FaceDataset, coordinator: Any) -> int:  # noqa: ANN401
    """Returns how many object references the driver holds more with a grid's trials than with none."""
    worker = ray._private.worker.global_worker.core_worker
    before = len(worker.get_all_reference_counts())
    shared = ray.put(dataset)
    settings = Settings()
    for trial in range(TRIALS):
        spec = RunSpec(f"trial-{trial}", replace(settings), shared, 1, Claim("", ""))
        ray.get(coordinator.register.remote(spec.uri, [ray.put(spec)], 1, "mse"))
    return len(worker.get_all_reference_counts()) - before


if __name__ == "__main__":
    main()
