"""Tables of the object store, mapped into this process's memory without a copy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from faceae.data.reader import column_rows
from faceae.data.sampler import POOL_BYTES


class MappedTable:
    """A table, and its columns as numpy arrays over the table's own memory."""

    def __init__(self, table: pa.Table) -> None:
        self.table, self.bytes = table, table.nbytes
        self._rows: dict[str, Sequence[NDArray[np.uint8]]] = {}

    def rows(self, name: str) -> Sequence[NDArray[np.uint8]]:
        """Returns the rows of a fixed-size binary column, each (B,) uint8, read-only."""
        if name not in self._rows:
            self._rows[name] = column_rows(self.table, name)
        return self._rows[name]


class Mapped:
    """The tables that a process has mapped; the least recently used are given up first."""

    def __init__(self, limit: int) -> None:
        """Creates an empty cache that holds at most `limit` bytes, or more if a single request needs more."""
        self.limit, self.bytes = limit, 0
        self._held: OrderedDict[ray.ObjectRef, MappedTable] = OrderedDict()

    def get(self, refs: Sequence[ray.ObjectRef]) -> list[MappedTable]:
        """Returns some tables. Those that lie on other nodes only are copied to this one."""
        missing = [ref for ref in refs if ref not in self._held]
        for ref, table in zip(missing, ray.get(missing), strict=True):
            self._held[ref] = MappedTable(table)
            self.bytes += self._held[ref].bytes
        for ref in refs:
            self._held.move_to_end(ref)
        found = [self._held[ref] for ref in refs]
        while self.bytes > self.limit and len(self._held) > len(refs):
            self.bytes -= self._held.popitem(last=False)[1].bytes
        return found


def node_cache(ranks_here: int) -> Mapped:
    """Creates the cache of a rank that shares its node with others: all of them may map half of its object store.

    It can always hold a pool of the sampler, so that the blocks of a pool are mapped once.
    """
    here = ray.get_runtime_context().get_node_id()
    store = next(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["NodeID"] == here)
    return Mapped(max(int(store / 2 / ranks_here), POOL_BYTES * 5 // 4))
