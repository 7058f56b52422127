"""A cluster that one machine pretends to be, and on each of its nodes a rank that takes batches and trains nothing."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench.serving import FIRST, ready_coordinator, serve, without_validation
from faceae.config import Mask
from faceae.data import reader
from faceae.data.cache import decode
from faceae.data.dataset import FaceDataset
from faceae.data.epoch_masks import draw_with_pixels
from faceae.data.reader import image_bytes, pixels_array
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.sources import list_sources
from faceae.tasks import Inpaint

SIZE, BATCH = 128, 64
STORE_BYTES = 6 * 2**30  # of all nodes together
LAST = 28
"""The last epoch that the ranks can take."""


class Run(NamedTuple):
    """A run on a cluster: its nodes, its images, its coordinator, a rank on each node, and where masks are logged."""

    ids: list[str]
    dataset: FaceDataset
    coordinator: Any
    ranks: list[Any]
    log: Path


@contextmanager
def pretended(nodes: int, cpus: int, images: int, rows: int) -> Iterator[Run]:
    """Starts a cluster, reads images in blocks of some rows, and trains an epoch on none of them."""
    with tempfile.TemporaryDirectory() as folder, _cluster(nodes, cpus) as ids:
        log = Path(folder) / "tasks"
        log.mkdir()
        dataset = _dataset(Path(folder), images, rows, LoggedMasks(Mask(size=28), SIZE, log=str(log)))
        coordinator = ready_coordinator()
        with serve(dataset, coordinator):
            ranks = [
                Rank.options(  # type: ignore[attr-defined]
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
                ).remote(rank, nodes)
                for rank, node in enumerate(ids)
            ]
            ray.get([rank.start.remote(f"{folder}/rendezvous", dataset, coordinator) for rank in ranks])
            epochs(ranks, 1)
            yield Run(ids, dataset, coordinator, ranks, log)


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
class LoggedMasks(Inpaint):
    """Draws masks and notes in a folder of this machine when and on which node it did so."""

    log: str = ""

    def draw(self, image_ids: Any, seed: int, epoch: int) -> NDArray[np.uint8]:  # noqa: ANN401
        """See `Inpaint.draw`."""
        start = time.time()
        drawn = super().draw(image_ids, seed, epoch)
        node = ray.get_runtime_context().get_node_id()
        with (Path(self.log) / str(os.getpid())).open("a") as file:
            file.write(f"{start} {time.time()} {node}\n")
        return drawn


def _dataset(folder: Path, images: int, rows: int, masks: LoggedMasks) -> FaceDataset:
    """Stores noise as Parquet, reads it on the cluster, and draws the masks of the first epoch."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, SIZE, SIZE, 3), np.uint8)
    table = pa.table({"image_id": [f"{number:05}" for number in range(images)], "pixels": pixels_array(pixels)})
    pq.write_table(table, folder / "noise.parquet", row_group_size=rows, compression="none")
    reader.BLOCK_BYTES = rows * image_bytes(SIZE)
    entries = list_sources([str(folder / "noise.parquet")], "--source").entries
    blocks, _ = decode(entries, SIZE, lambda images: None, draw_with_pixels(FIRST, masks))
    return without_validation(blocks, masks)


@ray.remote(num_cpus=1, num_gpus=1)
class Rank:
    """A rank that takes its batches and trains nothing."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size, self.rows = rank, world_size, 0

    def start(self, rendezvous: str, dataset: FaceDataset, coordinator: Any) -> None:  # noqa: ANN401
        """Joins the other ranks."""
        import torch.distributed as dist

        from faceae.cluster.worker import group_ranks
        from faceae.data.loader import BatchLoader

        if self.world_size > 1:
            method = f"file://{rendezvous}"
            dist.init_process_group("gloo", init_method=method, rank=self.rank, world_size=self.world_size)
        ranks = group_ranks(self.rank)
        if exchange := ranks.exchange:

            def counted(rows: Any, sent: list[int], received: list[int]) -> Any:  # noqa: ANN401
                arrived = exchange(rows, sent, received)
                self.rows += arrived.nbytes
                return arrived

            ranks = ranks._replace(exchange=counted)
        sampler = GlobalBatchSampler(dataset.train, 0, BATCH, dataset.task, max_workers=self.world_size)
        last = LAST
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


def epochs(ranks: list[Any], count: int) -> list[int]:
    """Takes some epochs on all ranks at once; returns the bytes that other ranks have sent to each."""
    received: list[int] = ray.get([rank.epochs.remote(count) for rank in ranks])
    return received
