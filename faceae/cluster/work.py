"""What the coordinator keeps of each run and of each worker group."""

from __future__ import annotations

from dataclasses import dataclass, field

import ray

from faceae.cluster.protocol import RunStatus


@dataclass
class KnownRun:
    """A registered run: its status, and a reference to its `RunSpec`, in a list so that Ray does not resolve it."""

    spec: list[ray.ObjectRef]
    epochs: int
    metric: str
    status: RunStatus = field(default_factory=RunStatus)


@dataclass
class Group:
    """A worker group with its replacements: the runs it took, how many are over, how many checkpoints it wrote."""

    attempt: int = 0
    taken: list[str] = field(default_factory=list)
    done: int = 0
    checkpoints: int = 0

    @property
    def current(self) -> str | None:
        """The run that the group trains now; None between runs."""
        return self.taken[self.done] if self.done < len(self.taken) else None
