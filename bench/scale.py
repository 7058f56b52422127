"""Counts what a run does on 8 and 16 nodes, which one machine can pretend to be, and times eight of them.

    python -m bench.scale              # about 5 minutes on two cores
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
import logging
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.table import Table

from bench.machine import describe
from faceae.cluster.coordinator import start_coordinator
from faceae.cluster.mask_drawing import draw_masks
from faceae.cluster.protocol import RunSpec
from faceae.cluster.worker_groups import in_thread
from faceae.config import Mask, Settings
from faceae.console import out
from faceae.data import reader
from faceae.data.cache import Blocks, decode
from faceae.data.dataset import FaceDataset
from faceae.data.epoch import EpochKey
from faceae.data.epoch_masks import draw_with_pixels
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import block_rows, image_bytes, pixels_array
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.sources import list_sources

RESULTS = Path(__file__).with_name("scale.json")
SIZE, IMAGES, BATCH = 128, 4096, 64
CPUS, BLOCKS_PER_NODE, ROWS = 8, 15, block_rows(SIZE)
MAX_CPUS = 64  # a process for each of them takes 0.2 GB
STORE_BYTES = 3 * 2**30  # of all nodes together
EPOCHS = 24
TRIALS = 100


def main() -> None:
    """Counts on the chosen numbers of nodes, times one and eight, prints tables and writes bench/scale.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", nargs="+", type=int, default=[1, 8, 16], help="numbers of nodes (1 8 16)")
    rows = [count(nodes) for nodes in parser.parse_args().nodes]
    rates = {nodes: speed(nodes) for nodes in (1, 8)}
    table = Table(title=f"{IMAGES} images of {SIZE}x{SIZE}; {describe()}", box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    ratio = rates[8] / rates[1]
    out.print(table)
    out.print(f"\nlater epochs: {rates[1]:,.0f} images/s on one node, {rates[8]:,.0f} on eight: {ratio:.2f}")
    content = {"machine": describe(), "rows": rows, "images_per_second": rates, "eight_nodes_vs_one": ratio}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    out.print(f"\nwritten to {RESULTS}")


def count(nodes: int) -> dict[str, Any]:
    """Counts on a cluster of some nodes."""
    cpus = min(CPUS, MAX_CPUS // nodes)
    out.print(f"scale     {nodes} nodes of {cpus} CPUs and a GPU, all of them pretended")
    with _run(nodes, cpus, IMAGES // (nodes * BLOCKS_PER_NODE)) as run:
        with _sampled(_executors) as executors:
            before = _store_bytes(run.ids)
            rows = _epochs(run.ranks, 2)
            pulled = [after - start for after, start in zip(_store_bytes(run.ids), before, strict=True)]
            _epochs(run.ranks, EPOCHS)
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
    with _run(nodes, 2, ROWS) as run:
        _epochs(run.ranks, 3)
        started = time.perf_counter()
        _epochs(run.ranks, EPOCHS)
        return EPOCHS * len(run.dataset.train) / (time.perf_counter() - started)


class Pretended(NamedTuple):
    """A run on a cluster: its nodes, its images, its coordinator, a rank on each node, and where masks are logged."""

    ids: list[str]
    dataset: FaceDataset
    coordinator: Any
    ranks: list[Any]
    log: Path


@contextmanager
def _run(nodes: int, cpus: int, rows: int) -> Iterator[Pretended]:
    """Starts a cluster, reads images in blocks of some rows, and trains an epoch on none of them."""
    with tempfile.TemporaryDirectory() as folder, _cluster(nodes, cpus) as ids:
        log = Path(folder) / "tasks"
        log.mkdir()
        dataset = _dataset(Path(folder), rows, LoggedMasks(Mask(size=28), SIZE, log=str(log)))
        coordinator, _ = start_coordinator()
        drawing = in_thread(lambda: draw_masks(coordinator, dataset))
        ranks = [
            Rank.options(  # type: ignore[attr-defined]
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(rank, nodes)
            for rank, node in enumerate(ids)
        ]
        ray.get([rank.start.remote(f"{folder}/rendezvous", dataset, coordinator) for rank in ranks])
        _epochs(ranks, 1)
        yield Pretended(ids, dataset, coordinator, ranks, log)
        ray.kill(coordinator)
        drawing.result()


@contextmanager
def _cluster(nodes: int, cpus: int) -> Iterator[list[str]]:
    """Starts a cluster and yields the ids of its nodes, without the head."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=cpus, num_gpus=1, object_store_memory=STORE_BYTES // nodes, wait=False)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU")]
    finally:
        ray.shutdown()
        cluster.shutdown()


@dataclass(frozen=True)
class LoggedMasks(MaskGenerator):
    """Draws masks and notes in a folder of this machine when and on which node it did so."""

    log: str = ""

    def draw(self, image_ids: Any, seed: int, epoch: int) -> NDArray[np.uint8]:  # noqa: ANN401
        """See `MaskGenerator.draw`."""
        start = time.time()
        drawn = super().draw(image_ids, seed, epoch)
        node = ray.get_runtime_context().get_node_id()
        with (Path(self.log) / str(os.getpid())).open("a") as file:
            file.write(f"{start} {time.time()} {node}\n")
        return drawn


def _dataset(folder: Path, rows: int, masks: LoggedMasks) -> FaceDataset:
    """Stores noise as Parquet, reads it on the cluster, and draws the masks of the first epoch."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)
    table = pa.table({"image_id": [f"{number:05}" for number in range(IMAGES)], "pixels": pixels_array(pixels)})
    pq.write_table(table, folder / "noise.parquet", row_group_size=rows, compression="none")
    reader.BLOCK_BYTES = rows * image_bytes(SIZE)
    first = EpochKey(0, 1, False)
    entries = list_sources([str(folder / "noise.parquet")], "--source").entries
    blocks, _ = decode(entries, SIZE, lambda images: None, draw_with_pixels(first, masks))
    return FaceDataset(blocks, first, Blocks([], []), masks, {}, 0.0)


@ray.remote(num_cpus=1, num_gpus=1)
class Rank:
    """A rank that takes its batches and trains nothing."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size, self.rows = rank, world_size, 0

    def start(self, rendezvous: str, dataset: FaceDataset, coordinator: Any) -> None:  # noqa: ANN401
        """Joins the other ranks."""
        import torch.distributed as dist

        from faceae.data.loader import BatchLoader, Ranks
        from faceae.training.collectives import RowExchange

        if self.world_size > 1:
            method = f"file://{rendezvous}"
            dist.init_process_group("gloo", init_method=method, rank=self.rank, world_size=self.world_size)
            exchange = RowExchange()
            nodes = tuple(exchange.gather(ray.get_runtime_context().get_node_id()))

            def counted(rows: Any, sent: list[int], received: list[int]) -> Any:  # noqa: ANN401
                arrived = exchange(rows, sent, received)
                self.rows += arrived.nbytes
                return arrived

            ranks = Ranks(self.rank, nodes, counted)
        else:
            ranks = Ranks()
        sampler = GlobalBatchSampler(dataset.train, 0, BATCH, dataset.mask_generator, max_workers=self.world_size)
        last = 4 + EPOCHS
        self.loader = BatchLoader(
            sampler,
            range(1, last + 1),
            lambda key, blocks: ray.get(coordinator.get_masks.remote(key, last, blocks)),
            ranks,
        )

    def epochs(self, count: int) -> int:
        """Takes the batches of some epochs; returns the bytes that other ranks have sent meanwhile."""
        before = self.rows
        for _ in range(count):
            for _ in self.loader.epoch():
                pass
        return self.rows - before


def _epochs(ranks: list[Any], count: int) -> list[int]:
    received: list[int] = ray.get([rank.epochs.remote(count) for rank in ranks])
    return received


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
        spec = RunSpec(f"trial-{trial}", replace(settings), shared, 1)
        ray.get(coordinator.register.remote(spec.uri, [ray.put(spec)], 1, "mse"))
    return len(worker.get_all_reference_counts()) - before


if __name__ == "__main__":
    main()
