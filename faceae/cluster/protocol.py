"""What the driver, Ray Tune, the training workers and the coordinator tell each other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import ray

from faceae.claim import Claim
from faceae.config import Settings
from faceae.console import clock, count
from faceae.training.progress import Record

METRIC, TIME = "value", "epoch"
"""Names under which a trial reports to Ray Tune: the metric that the scheduler compares, and its time."""


class Pause(IntEnum):
    """Why the workers leave an epoch before its end; the maximum of several reasons wins."""

    NONE = 0
    SAVE = 1
    """A checkpoint is due; training continues after it."""
    TIME_UP = 2
    """The budget of minutes is used up: the epoch ends here."""
    MOVE = 3
    """Other workers take over: a node will be taken away, or there is room for more of them."""
    STOP = 4
    """The run ends here; it can be resumed."""


class Attempt(NamedTuple):
    """One start of a worker group; the next one replaces it.

    Attributes:
        group: the group's name.
        number: the number of the start, counted from 1.
    """

    group: str
    number: int


@dataclass(frozen=True)
class RunSpec:
    """A run to train: everything that its workers need.

    Attributes:
        uri: the run's folder, which names it.
        settings: the run's settings.
        dataset: reference to the `FaceDataset`, which all runs of a grid share.
        max_workers: largest number of workers that the run may ever have.
        claim: the job's claim on the run's folder, or the grid's, without which nothing may be written.
        until: the epoch after which it pauses, see `faceae.tuning.population`; None if it does not.
    """

    uri: str
    settings: Settings
    dataset: ray.ObjectRef
    max_workers: int
    claim: Claim
    until: int | None = None

    @property
    def last_epoch(self) -> int:
        """The last epoch to train now."""
        return min(self.settings.train.epochs, self.until or self.settings.train.epochs)


class Verdict(NamedTuple):
    """How a trial ended for Ray Tune.

    Attributes:
        complete: whether it needed no more epochs; if not, it was stopped early.
        failure: why the trial's own process failed; empty if it did not.
    """

    complete: bool
    failure: str = ""


@dataclass
class RunStatus:
    """The status of a run.

    Attributes:
        records: one record for each finished epoch, including those of earlier sessions.
        step: (epoch, images of it trained on) while an epoch is under way.
        failure: why training cannot continue; None if it can.
        device: name of the device that the workers train on; empty before they have started.
        workers: number of workers that train the run.
        begun: (finished epochs, images of the next one) when the workers first started.
        notes: messages for the user.
        requested: the pause that the workers are asked to make.
        ended: whether training has ended, for whatever reason.
        verdict: Ray Tune's verdict, once it has one.
        last_step: time of the last step report, on the coordinator's monotonic clock.
        first_step: time at which the first step was done, on the same clock, which is the driver's; 0 before.
        version: the coordinator's version at the last change of this status.
    """

    records: list[Record] = field(default_factory=list)
    step: tuple[int, int] | None = None
    failure: str | None = None
    device: str = ""
    workers: int = 0
    begun: tuple[int, int] = (0, 0)
    notes: list[str] = field(default_factory=list)
    requested: Pause = Pause.NONE
    ended: bool = False
    verdict: Verdict | None = None
    last_step: float = 0.0
    first_step: float = 0.0
    version: int = 0

    def resumed(self, workers: int, begun: tuple[int, int]) -> str:
        """Says what a replacement of workers has cost, when others go on from what the checkpoint has (as `begun`)."""
        epoch, images = self.step or (begun[0] + 1, begun[1])
        place = f"epoch {begun[0] + 1}" + (f", image {begun[1]}" if begun[1] else "")
        again = f" ({images - begun[1]} images again)" if epoch == begun[0] + 1 and images > begun[1] else ""
        after = clock(time.monotonic() - self.last_step)
        return f"training goes on with {count(workers, 'worker')} in {place}{again}, {after} later"


class Changes(NamedTuple):
    """The changes since a version.

    Attributes:
        version: the coordinator's version; the next call asks for the changes after it.
        runs: the status of each run that has changed.
        failure: why nothing can be trained at all; None if something can.
    """

    version: int
    runs: dict[str, RunStatus]
    failure: str | None
