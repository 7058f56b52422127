"""The board that the first training worker writes on and the driver reads: how far the run is."""

from __future__ import annotations

from typing import Any, NamedTuple


class State(NamedTuple):
    """What stands on the board.

    Attributes:
        records: of the finished epochs that the reader has not seen.
        step: (epoch, images of it trained on) of the epoch under way.
        failure: why training cannot go on, if so.
        device: what the workers train on; empty before they have started.
        epochs_before: finished before they first started.
        restarts: the epoch that each later group of workers went on after: the one before had lost a worker.
    """

    records: list[dict[str, Any]]
    step: tuple[int, int] | None
    failure: str | None
    device: str
    epochs_before: int
    restarts: list[int]


class Board:
    """Runs as a Ray actor, since workers and driver share neither process nor machine."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.current: tuple[int, int] | None = None
        self.failure: str | None = None
        self.device = ""
        self.epochs_before = 0
        self.restarts: list[int] = []

    def start(self, device: str, epochs_before: int) -> None:
        """Says that the workers are there, and where they start."""
        if self.device:
            self.restarts.append(epochs_before)
        else:
            self.device, self.epochs_before = device, epochs_before

    def step(self, epoch: int, images: int) -> None:
        """Says how many images of an epoch are done."""
        self.current = (epoch, images)

    def epoch(self, record: dict[str, Any]) -> None:
        """Adds a finished epoch."""
        self.records.append(record)
        self.current = None

    def fail(self, reason: str) -> None:
        """Says why training ended early."""
        self.failure = reason

    def read(self, seen: int) -> State:
        """What is new after `seen` records."""
        return State(self.records[seen:], self.current, self.failure, self.device, self.epochs_before, self.restarts)
