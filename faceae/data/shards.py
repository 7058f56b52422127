"""Writes Parquet shards of decoded pixels, with one Ray Data task for each shard.

A shard has the columns `image_id` (string) and `pixels` (fixed-size binary: image_size x image_size x 3 uint8, row by
row), uncompressed, in row groups of the size of a block of `faceae.data.reader`. Until all shards are written, each
finished one has a record of its contents in the folder `finished`; a shard without a record is not finished. The bytes
of a shard depend on its entries alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from faceae import storage
from faceae.data.reader import FaceSource, block_rows, column_rows, image_bytes, read_unit
from faceae.data.sources import Entry

FINISHED = "finished"
"""Name of the folder that holds the records."""

# Minimum number of shards, if each fills a block: this many cores have work, and a stop loses little of it.
_MIN_SHARDS = 16


def plan(entries: Sequence[Entry], image_size: int, megabytes: float) -> dict[str, Sequence[Entry]]:
    """Divides entries into shards; the result does not depend on the cluster.

    Args:
        entries: the images.
        image_size: side of a decoded image in pixels.
        megabytes: maximum size of a shard's pixels, in 1e6 bytes (one image, if that is larger).

    Returns:
        The entries of each shard, by the name of its file.
    """
    wanted = max(_MIN_SHARDS, math.ceil(len(entries) * image_bytes(image_size) / (megabytes * 1e6)))
    max_rows = max(1, int(megabytes * 1e6 / image_bytes(image_size)))
    rows = math.ceil(len(entries) / wanted)
    rows = min(max_rows, math.ceil(rows / block_rows(image_size)) * block_rows(image_size))
    starts = range(0, len(entries), rows)
    return {f"part-{number:05}.parquet": entries[start : start + rows] for number, start in enumerate(starts)}


def read_record(folder: str, name: str) -> dict[str, Any]:
    """Reads the record of a finished shard.

    Returns:
        `name`, `rows`, `bytes`, `sha256` (of the file), `images_sha256_sum` (see `images_sum`) and `rejected` (a list
        of `image_id` and `reason`).
    """
    return storage.read_json(_record_uri(folder, name))


def _record_uri(folder: str, name: str) -> str:
    return storage.join(folder, FINISHED, f"{name}.json")


class ShardWriter(Datasource):
    """Reads and decodes images and writes the shards; its rows report progress.

    Each row has `images` (how many more images were read) and `rejected` (JSON: a list with the `image_id` and `reason`
    of those among them that cannot be used).
    """

    def __init__(self, shards: Mapping[str, Sequence[Entry]], image_size: int, folder: str) -> None:
        self.shards, self.image_size, self.folder = shards, image_size, folder

    def estimate_inmemory_data_size(self) -> int | None:
        """Returns None: the images do not leave the task, so the size is next to nothing."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ANN401
        """Returns one task per shard, whatever the parallelism."""
        return [self._task(name, entries) for name, entries in self.shards.items()]

    def _task(self, name: str, entries: Sequence[Entry]) -> ReadTask:
        folder, image_size = self.folder, self.image_size
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return ReadTask(lambda: write_shard(folder, name, entries, image_size), metadata)


def write_shard(folder: str, name: str, entries: Sequence[Entry], image_size: int) -> Iterator[pa.Table]:
    """Reads and decodes the images of a shard, then writes it and its record; see `ShardWriter`.

    Raises:
        OSError: the storage failed.
    """
    blocks, rejected = [], []
    units = FaceSource(entries, image_size).units
    for block in itertools.chain.from_iterable(read_unit(unit, image_size) for unit in units):
        usable = pc.is_null(block["reason"])
        blocks.append(block.filter(usable).select(["image_id", "pixels"]))
        bad = block.filter(pc.invert(usable)).select(["image_id", "reason"]).to_pylist()
        rejected += bad
        yield pa.table({"images": [block.num_rows], "rejected": [json.dumps(bad)]})
    table = pa.concat_tables(blocks)
    written = _parquet(table, image_size)
    storage.write(storage.join(folder, name), memoryview(written))
    record = {
        "name": name,
        "rows": table.num_rows,
        "bytes": written.size,
        "sha256": hashlib.sha256(written).hexdigest(),
        "images_sha256_sum": f"{images_sum(table):064x}",
        "rejected": rejected,
    }
    storage.write_json(_record_uri(folder, name), record)


def _parquet(table: pa.Table, image_size: int) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    rows = block_rows(image_size)
    # One page per row group. Pixels do not compress, and statistics (their minimum and maximum) would mean nothing.
    pq.write_table(
        table,
        sink,
        row_group_size=rows,
        data_page_size=max(2**20, rows * image_bytes(image_size)),
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    return sink.getvalue()


def images_sum(table: pa.Table) -> int:
    """Returns the sum of all images' SHA-256 digests (of id, a zero byte and pixels) as numbers, modulo 2**256.

    So two sets of the same images have the same sum, whatever their order and their division into shards.
    """
    images = zip(table["image_id"].to_pylist(), column_rows(table, "pixels"), strict=True)
    digests = (hashlib.sha256(image_id.encode() + b"\0" + pixels.tobytes()).digest() for image_id, pixels in images)
    return sum(int.from_bytes(digest) for digest in digests) % 2**256
