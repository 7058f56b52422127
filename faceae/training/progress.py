"""How far a run is. Imports nothing: the driver knows it before it has imported torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
"""A line of metrics.jsonl."""


@dataclass(frozen=True)
class EpochResult:
    """What an epoch of training gave, over all ranks.

    Attributes:
        images: trained on.
        seconds: wall time.
        data_wait_fraction: share of it that this rank waited for data.
        loss: mean over the images.
        pause: why it was left before its end, as the caller's `pause` said; 0 if it is complete.
    """

    images: int = 0
    seconds: float = 0.0
    data_wait_fraction: float = 0.0
    loss: float = 0.0
    pause: int = 0


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        history: the record of each finished epoch.
        part: what the epoch after them gave so far.
        seconds: spent on training and validation, of all sessions of the run.
    """

    history: list[Record] = field(default_factory=list)
    part: EpochResult = field(default_factory=EpochResult)
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """The last finished epoch; 0 before the first."""
        return self.history[-1]["epoch"] if self.history else 0

    @property
    def name(self) -> str:
        """Of its checkpoint: they sort as they come."""
        return f"{self.epoch:05}" + (f"-{self.part.images:09}" if self.part.images else "")

    def best(self, metric: str) -> Record:
        """The epoch with the lowest validation metric, the first of equals."""
        return min(self.history, key=lambda record: record["val"][metric])
