"""Encodes images on the cluster to latent vectors, which are kept in Parquet files.

A *part* is one such file: some thousand images. It is written when the last of its images is encoded, so a part that is
there is finished, and a stop loses little.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import torch
from numpy.typing import NDArray

from faceae import storage
from faceae.cluster.replicas import REPLICA_CPUS
from faceae.data.batch import Batch
from faceae.data.execution import ActorPool, Replicas, stream
from faceae.data.reader import FaceSource, column_rows
from faceae.data.rejected import Rejected
from faceae.data.sources import Entry
from faceae.models import Restorer
from faceae.training.transfer import to_device

PART_IMAGES = 4096
"""Least number of images in a part, but for the last."""

_REJECTED = b"rejected"  # key of a part's metadata


class Part(NamedTuple):
    """A part.

    Attributes:
        name: name of its file.
        units: its images, as `FaceSource` divides them.
    """

    name: str
    units: list[Sequence[Entry]]

    @property
    def ids(self) -> list[str]:
        """The images' ids, in the order of the file."""
        return [entry.image_id for unit in self.units for entry in unit]


def plan(entries: Sequence[Entry], image_size: int) -> list[Part]:
    """Divides images into parts; the result does not depend on the cluster."""
    parts: list[list[Sequence[Entry]]] = []
    images = PART_IMAGES
    for unit in FaceSource(entries, image_size).units:
        if images >= PART_IMAGES:
            parts.append([])
            images = 0
        parts[-1].append(unit)
        images += len(unit)
    return [Part(f"part-{number:05}.parquet", units) for number, units in enumerate(parts)]


def encode(
    parts: Sequence[Part], model: Restorer, batch_size: int, replicas: Replicas
) -> Iterator[tuple[int, tuple[Part, pa.Table] | None]]:
    """Reads, decodes and encodes the images of parts.

    Yields:
        How many more images are encoded; and if that completes a part, the part and its table, with the columns of
        `FaceSource` but for the pixels, and `latent`.

    Raises:
        ray.exceptions.RayError: the storage failed during reading.
    """
    image_size = model.settings.data.image_size
    source = FaceSource([entry for part in parts for unit in part.units for entry in unit], image_size)
    source.units = [unit for part in parts for unit in part.units]  # as planned: the network then sees the same batches
    pool = ActorPool(Encoder, (ray.put(model), batch_size, replicas.device), replicas.at_most(len(source.units)))
    part_of = {image_id: part for part in parts for image_id in part.ids}
    arrived: dict[str, list[pa.Table]] = defaultdict(list)
    for table in stream(source, len(source.units), pool):
        part = part_of[table["image_id"][0].as_py()]
        arrived[part.name].append(table)
        if sum(map(len, arrived[part.name])) < len(part.ids):
            yield len(table), None
        else:
            yield len(table), (part, _in_order(pa.concat_tables(arrived.pop(part.name)), part.ids))


def _in_order(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    rows = {image_id: row for row, image_id in enumerate(table["image_id"].to_pylist())}
    return table.take([rows[image_id] for image_id in ids])


class Encoder:
    """A replica of the model in its own process; called with blocks of `FaceSource`."""

    def __init__(self, model: ray.ObjectRef, batch_size: int, device: str) -> None:
        self.device, self.batch_size = torch.device(device), batch_size
        if self.device.type == "cpu":
            torch.set_num_threads(REPLICA_CPUS)
        restorer: Restorer = ray.get(model)
        self.network, self.image_size = restorer.network.to(self.device), restorer.settings.data.image_size

    def __call__(self, block: pa.Table) -> pa.Table:
        """Replaces the pixels by the column `latent`, a list of float32; that of an unusable image means nothing."""
        pixels, size = column_rows(block, "pixels"), self.batch_size
        latents = np.concatenate([self._encoded(pixels[at : at + size]) for at in range(0, len(pixels), size)])
        column = pa.FixedSizeListArray.from_arrays(pa.array(latents.ravel()), latents.shape[1])
        return block.drop_columns("pixels").append_column("latent", column)

    @torch.inference_mode()
    def _encoded(self, rows: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
        side = self.image_size
        nothing_hidden = np.zeros((len(rows), side * side // 8), np.uint8)
        batch = Batch(np.array(rows).reshape(-1, side, side, 3), nothing_hidden, len(rows))
        data = to_device(batch, self.device)
        latents: NDArray[np.float32] = self.network.encode(data.given, data.mask).float().cpu().numpy()  # type: ignore[operator]
        return latents


def usable(table: pa.Table) -> tuple[pa.Table, list[Rejected]]:
    """Returns `image_id` and `latent` of the usable images of a part that `encode` yields, and the other images."""
    kept = pc.is_null(table["reason"])
    bad = [(row["image_id"], row["reason"]) for row in table.filter(pc.invert(kept)).to_pylist()]
    return table.filter(kept).select(["image_id", "latent"]), bad


def write(uri: str, table: pa.Table) -> list[Rejected]:
    """Writes a part that `encode` yields: `image_id` (string) and `latent` (list of D float32).

    Returns:
        The images that cannot be used, which the file's metadata name, too.
    """
    kept, bad = usable(table)
    sink = pa.BufferOutputStream()
    pq.write_table(
        kept.replace_schema_metadata({_REJECTED: json.dumps(bad)}), sink, use_dictionary=False, write_statistics=False
    )
    storage.write(uri, memoryview(sink.getvalue()))
    return bad


def read(uri: str) -> tuple[pa.Table, list[Rejected]]:
    """Returns the table of a part that `write` wrote, and the images that cannot be used."""
    table = pq.read_table(pa.BufferReader(storage.read(uri)))
    return table, [(image_id, reason) for image_id, reason in json.loads(table.schema.metadata[_REJECTED])]


def vectors(table: pa.Table) -> NDArray[np.float32]:
    """Returns the latent vectors of a table, (N, D) float32."""
    chunks = [chunk.flatten().to_numpy() for chunk in table["latent"].chunks]
    return np.concatenate(chunks).reshape(len(table), -1)
