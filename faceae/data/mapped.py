"""Blocks of the object store, mapped into this process's memory without a copy, and masks, unpacked for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

import pyarrow as pa
import ray

from faceae.data.reader import Rows, column_rows
from faceae.data.sampler import POOL_BYTES


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=_Sized)


class Recent(Generic[K, V]):
    """A cache of limited size; the least recently used values are given up first."""

    def __init__(self, limit: int) -> None:
        """Creates an empty cache that holds at most `limit` bytes, or more if a single request needs more."""
        self.limit, self.bytes = limit, 0
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, keys: Sequence[K], make: Callable[[list[K]], Sequence[V]]) -> list[V]:
        """Returns the values of some keys; `make` returns those that the cache does not hold."""
        missing = [key for key in keys if key not in self._held]
        for key, value in zip(missing, make(missing), strict=True):
            self._held[key] = value
            self.bytes += value.nbytes
        for key in keys:
            self._held.move_to_end(key)
        found = [self._held[key] for key in keys]
        while self.bytes > self.limit and len(self._held) > len(keys):
            self.bytes -= self._held.popitem(last=False)[1].nbytes
        return found


class MappedTable:
    """A table, and its columns as numpy arrays over the table's own memory."""

    def __init__(self, table: pa.Table) -> None:
        self.table, self.nbytes = table, table.nbytes
        self._rows: dict[str, Rows] = {}

    def rows(self, name: str) -> Rows:
        """Returns the rows of a fixed-size binary column."""
        if name not in self._rows:
            self._rows[name] = column_rows(self.table, name)
        return self._rows[name]


class Mapped:
    """The tables that a process has mapped."""

    def __init__(self, limit: int) -> None:
        """Creates an empty cache, see `Recent`."""
        self._tables: Recent[ray.ObjectRef, MappedTable] = Recent(limit)

    def get(self, refs: Sequence[ray.ObjectRef]) -> list[MappedTable]:
        """Returns some tables. Those that lie on other nodes only are copied to this one."""
        return self._tables.get(refs, lambda missing: [MappedTable(table) for table in ray.get(missing)])


def node_cache(ranks_here: int) -> Mapped:
    """Creates the cache of a rank that shares its node with others: all of them may map half of its object store.

    It can always hold a pool of the sampler, so that the blocks of a pool are mapped once.
    """
    here = ray.get_runtime_context().get_node_id()
    store = next(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["NodeID"] == here)
    return Mapped(max(int(store / 2 / ranks_here), POOL_BYTES * 5 // 4))
