"""Finds what does not belong on faces with a network of --task repair and Ray Data, for `faceae evaluate --anomaly`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import ray
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from faceae.cluster.replicas import REPLICA_CPUS
from faceae.data.execution import ActorPool, Replicas, execute
from faceae.data.reader import FaceSource, column_rows
from faceae.data.sources import Entry
from faceae.errors import InputError
from faceae.models import Restorer
from faceae.models.repair import RepairUnet

HEAT_SIDE = 32
"""Side of a saved heat map."""


class AnomalyScoring(NamedTuple):
    """What looks for anomalies, and how.

    Attributes:
        model: the model, of --task repair.
        batch_size: number of images that it sees at a time.
    """

    model: Restorer
    batch_size: int


def check(model: Restorer) -> None:
    """Raises InputError if a model cannot say what is wrong."""
    if not isinstance(model.network, RepairUnet):
        raise InputError(
            f"--anomaly: this model was trained for --task {' '.join(model.settings.task)} and cannot say what does "
            "not belong on a face; train one with --preset repair"
        )


def heat(model: Restorer, images: Tensor) -> Tensor:
    """Returns how likely each pixel of images, (N, 3, S, S), is not to belong there: (N, 1, S, S); all in [0, 1]."""
    assert isinstance(model.network, RepairUnet)
    return model.network.suspicion(images)


def score(heat: Tensor) -> Tensor:
    """Returns the anomaly score of images, (N,): the largest value of each one's heat, (N, 1, S, S)."""
    return heat.flatten(1).amax(1)


def score_anomalies(entries: Sequence[Entry], scoring: AnomalyScoring, replicas: Replicas) -> Iterator[pa.Table]:
    """Reads, decodes and looks at images on the cluster, in the order in which `FaceSource` reads them.

    Args:
        entries: the images.
        scoring: the model.
        replicas: its replicas.

    Yields:
        Tables with the columns image_id, reason (null for a usable image; the others' scores are meaningless), score
        and heat: `HEAT_SIDE`² bytes for an image, row by row, of 255.

    Raises:
        ray.exceptions.RayError: the storage failed during reading.
    """
    source = FaceSource(entries, scoring.model.settings.data.image_size)
    arguments = (ray.put(scoring.model), scoring.batch_size, replicas.device)
    pool = ActorPool(AnomalyScorer, arguments, replicas.at_most(len(source.units)))
    for ref, _ in execute(source, len(source.units), None, pool):
        yield ray.get(ref)


class AnomalyScorer:
    """A replica of the model in its own process; called with blocks of `FaceSource`."""

    def __init__(self, model: ray.ObjectRef, batch_size: int, device: str) -> None:
        self.device = torch.device(device)
        if self.device.type == "cpu":
            torch.set_num_threads(REPLICA_CPUS)
        restorer: Restorer = ray.get(model)
        self.model = restorer.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch_size = batch_size

    def __call__(self, block: pa.Table) -> pa.Table:
        """Adds scores and heat to a block, and drops its pixels."""
        size = self.model.settings.data.image_size
        pixels = np.reshape(column_rows(block, "pixels"), (-1, size, size, 3))
        found = [
            self._heat(pixels[start : start + self.batch_size]) for start in range(0, len(pixels), self.batch_size)
        ]
        heats = torch.cat(found)
        small = F.adaptive_avg_pool2d(heats, HEAT_SIDE).mul(255).round().byte().flatten(1).numpy()
        block = block.drop_columns(["pixels"])
        block = block.append_column("score", pa.array(score(heats).numpy()))
        return block.append_column("heat", pa.FixedSizeListArray.from_arrays(pa.array(small.reshape(-1)), HEAT_SIDE**2))

    def _heat(self, pixels: NDArray[np.uint8]) -> Tensor:
        given = torch.tensor(pixels, device=self.device).permute(0, 3, 1, 2).float() / 255
        return heat(self.model, given).cpu()
