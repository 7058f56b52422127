"""The progress of a run. Imports nothing heavy, since the driver uses it before it imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
"""One line of metrics.jsonl."""


@dataclass(frozen=True)
class EpochResult:
    """The outcome of an epoch of training, over all ranks.

    Attributes:
        images: images trained on.
        seconds: wall time in seconds.
        data_wait_fraction: share of that time this rank waited for data, in [0, 1].
        loss: mean loss over the images.
        pause: the reason that `EpochControl.pause` gave for leaving the epoch early; 0 if the epoch is complete.
    """

    images: int = 0
    seconds: float = 0.0
    data_wait_fraction: float = 0.0
    loss: float = 0.0
    pause: int = 0


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        history: the record of each finished epoch.
        part: the result so far of the current, unfinished epoch.
        seconds: seconds spent on training and validation, over all sessions of the run.
    """

    history: list[Record] = field(default_factory=list)
    part: EpochResult = field(default_factory=EpochResult)
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """The number of the last finished epoch; 0 before the first."""
        return self.history[-1]["epoch"] if self.history else 0

    @property
    def name(self) -> str:
        """The checkpoint's folder name; names sort in the order in which checkpoints are written."""
        return f"{self.epoch:05}" + (f"-{self.part.images:09}" if self.part.images else "")

    def best(self, metric: str) -> Record:
        """Returns the record of the epoch with the lowest validation metric, the first among equals; or of the last."""
        if metric == "last":
            return self.history[-1]
        return min(self.history, key=lambda record: record["val"][metric])
