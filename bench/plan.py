"""Calculates what a run needs, from the formulas of docs/scale.md: for your own images, GPUs and network.

    python -m bench.plan                                  # the tables of docs/scale.md
    python -m bench.plan --images 200000 --size 256 --rate 1250 --weights 5e6

The rate of a GPU is an assumption; take your own from the line of an epoch (images/s, at 0 % waiting for data). The
share of the images that crosses between nodes is not a formula but a count, over the sampler's own global batches.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import ray
from rich.table import Table

from faceae.config import Mask
from faceae.console import out
from faceae.data.cache import Blocks
from faceae.data.reader import block_rows, image_bytes
from faceae.data.sampler import GlobalBatchSampler, assign
from faceae.tasks import Inpaint

CPU_US = json.loads(Path(__file__).with_name("results.json").read_text())["ingest_cpu_us_per_image"]
"""Processor time of an image of 128x128 in a later epoch, all processes, in microseconds: measured by make bench."""

GPUS = (1, 8, 16, 32, 64)
EPOCHS = 4


@dataclass(frozen=True)
class Plan:
    """A run on some GPUs.

    Attributes:
        images: training images.
        size: side of an image in pixels.
        validation: validation images.
        gpus: GPUs of the run.
        per_node: GPUs of a node.
        batch: global batch.
        rate: images/s that a GPU trains on.
        weights: parameters of the network.
    """

    images: int
    size: int
    validation: int
    gpus: int
    per_node: int
    batch: int
    rate: float
    weights: float

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return -(-self.gpus // self.per_node)

    @property
    def row_bytes(self) -> float:
        """Bytes of an image with its mask: 3 S^2 and S^2 / 8."""
        return image_bytes(self.size) * 25 / 24

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch in which no GPU waits."""
        return self.images / (self.gpus * self.rate)

    def figures(self) -> dict[str, str]:
        """Returns the lines of the table, by name."""
        at_node = min(self.gpus, self.per_node) * self.rate  # images/s
        steps = self.gpus * self.rate / self.batch  # a second
        crossing = crossing_share(self.images, self.size, self.batch, self.gpus, self.per_node)
        first = self._share() * (self.nodes - 1) / self.nodes
        gradients = steps * 2 * 4 * self.weights * (self.nodes - 1) / self.nodes
        state = 3 * 4 * self.weights  # weights, Muon's momentum, the moving average
        return {
            "nodes": f"{self.nodes}",
            "seconds of an epoch": f"{self.epoch_seconds:,.1f}",
            "steps a second": f"{steps:,.0f}",
            "images of a GPU in a step": f"{self.batch / self.gpus:,.0f}",
            "cores of a node for batches and masks": f"{at_node * CPU_US * self.size**2 / 128**2 / 1e6:.2f}",
            "object store of a node, GB": f"{(1 + (self.nodes > 1)) * self._share() / 1e9:.2f}",
            "images that cross between nodes": f"{crossing:.1%}",
            "network into a node: images, MB/s": f"{at_node * crossing * self.row_bytes / 1e6:,.0f}",
            "network into a node: gradients, MB/s": f"{gradients / 1e6:,.0f}",
            "moved into a node once, GB": f"{first / 1e9:.2f}",
            "seconds of a validation": f"{self.validation / (3 * self.gpus * self.rate):.2f}",
            "bytes of a checkpoint, MB": f"{state / 1e6:.0f}",
        }

    def _share(self) -> float:
        """Bytes of a node's share of the images, with the masks of the first epoch, which stay beside them."""
        return self.images * self.row_bytes / self.nodes


@cache
def crossing_share(images: int, size: int, batch: int, gpus: int, per_node: int) -> float:
    """Returns the share of the images that a rank of another node trains on, counted over some epochs."""
    usable = [np.arange(min(block_rows(size), images - first)) for first in range(0, images, block_rows(size))]
    blocks = Blocks([ray.ObjectRef.nil()] * len(usable), [rows.astype(np.int32) for rows in usable])
    sampler = GlobalBatchSampler(blocks, 0, batch, Inpaint(Mask(), size), max_workers=gpus)
    order = np.concatenate([sampler.permutation(epoch)[: images // batch * batch] for epoch in range(EPOCHS)])
    homes = sampler.homes(order, gpus).reshape(-1, batch)
    return float((assign(homes, gpus) // per_node != homes // per_node).mean())


def main() -> None:
    """Prints the table for the numbers of GPUs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60_000, help="training images (60000)")
    parser.add_argument("--validation", type=int, default=10_000, help="validation images (10000)")
    parser.add_argument("--size", type=int, default=128, help="side of an image in pixels (128)")
    parser.add_argument("--gpus", type=int, nargs="+", default=GPUS, help="GPUs of the run (1 8 16 32 64)")
    parser.add_argument("--per-node", type=int, default=8, help="GPUs of a node (8)")
    parser.add_argument("--batch", type=int, default=1024, help="global batch (1024)")
    parser.add_argument("--rate", type=float, default=5000, help="images/s of a GPU, an assumption (5000)")
    parser.add_argument("--weights", type=float, default=1.07e6, help="parameters of the network (1.07e6, `restore`)")
    given = parser.parse_args()
    columns = []
    for gpus in given.gpus:
        plan = Plan(
            given.images,
            given.size,
            given.validation,
            gpus,
            given.per_node,
            given.batch,
            given.rate,
            given.weights,
        )
        columns.append(plan.figures())
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{given.images:,} images of {given.size}x{given.size}, batch {given.batch}")
    for gpus in given.gpus:
        table.add_column(f"{gpus} GPUs" if gpus > 1 else "1 GPU", justify="right")
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    out.print(table)


if __name__ == "__main__":
    main()
