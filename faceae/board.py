"""The board between the driver and the training workers: what is to be trained, and how far it is.

Runs as a Ray actor, since they share neither process nor machine. A run is named by its URI. A *crew* is a group of
Ray Train workers (`faceae.crews`): it takes one run after the other, until there are no more.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

WAIT_S = 0.05
"""Seconds between two looks for the next run of a crew."""


class Task(NamedTuple):
    """A run to train.

    Attributes:
        run: its URI.
        job: the reference of its `faceae.worker.Job`, in a list lest Ray resolve it on the way.
        epochs: to train.
        metric: of the validation, lower is better.
        history: the records of its epochs that an earlier session left.
    """

    run: str
    job: list[ray.ObjectRef]
    epochs: int
    metric: str
    history: list[dict[str, Any]]


@dataclass
class State:
    """What stands on the board of a run.

    Attributes:
        records: of its finished epochs; read, those that the reader has not seen.
        step: (epoch, images of it trained on) of the epoch under way.
        failure: why training cannot go on, if so.
        device: what the workers train on; empty before they have started.
        epochs_before: finished before they first started.
        restarts: the epoch that each later group of workers went on after: the one before had lost a worker.
        stopped: whether training shall end.
        ended: whether it has, one way or another.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    step: tuple[int, int] | None = None
    failure: str | None = None
    device: str = ""
    epochs_before: int = 0
    restarts: list[int] = field(default_factory=list)
    stopped: bool = False
    ended: bool = False


@dataclass
class Crew:
    """The runs that it has taken, and how many of them are over."""

    taken: list[Task] = field(default_factory=list)
    done: int = 0


class Board:
    """Asynchronous: many workers can wait for work at once."""

    def __init__(self) -> None:
        self.runs: defaultdict[str, State] = defaultdict(State)
        self.crews: defaultdict[str, Crew] = defaultdict(Crew)
        self.waiting: deque[Task] = deque()
        self.trials: dict[str, Task] = {}
        self.dismissed = False

    async def plan(self, trials: dict[str, Task]) -> None:
        """Notes the trials of a grid by their names."""
        self.trials = trials

    async def task(self, trial: str) -> Task:
        """What a trial has to do."""
        return self.trials[trial]

    async def give(self, task: Task) -> None:
        """Puts a run up, for the next crew that is free."""
        self.waiting.append(task)

    async def dismiss(self) -> None:
        """Lets every crew go that finds no more runs."""
        self.dismissed = True

    async def done(self, crew: str) -> int:
        """How many of its runs are over: where a crew goes on that has lost a worker."""
        return self.crews[crew].done

    async def take(self, crew: str, number: int) -> Task | None:
        """Waits for a crew's run of this number, from 0, the same for all its ranks; None if there are no more."""
        taken = self.crews[crew].taken
        while number >= len(taken):
            if self.waiting:
                taken.append(self.waiting.popleft())
            elif self.dismissed:
                return None
            else:
                await asyncio.sleep(WAIT_S)
        return taken[number]

    async def end(self, crew: str, failure: str | None = None) -> str | None:
        """Says that a crew is through with its run, and why if it had to give up; returns the run."""
        work = self.crews[crew]
        if work.done == len(work.taken):
            return None
        run = work.taken[work.done].run
        work.done += 1
        self.runs[run].ended, self.runs[run].failure = True, failure
        return run

    async def start(self, run: str, device: str, epochs_before: int) -> None:
        """Says that the workers are at a run, and where they start."""
        state = self.runs[run]
        if state.device:
            state.restarts.append(epochs_before)
        else:
            state.device, state.epochs_before = device, epochs_before

    async def step(self, run: str, epoch: int, images: int) -> bool:
        """Says how many images of an epoch are done; returns whether training shall end."""
        state = self.runs[run]
        state.step = (epoch, images)
        return state.stopped

    async def epoch(self, run: str, record: dict[str, Any]) -> None:
        """Adds a finished epoch."""
        self.runs[run].records.append(record)
        self.runs[run].step = None

    async def stop(self, run: str) -> None:
        """Asks the workers to end a run, at their next word about a step."""
        self.runs[run].stopped = True

    async def read(self, run: str, seen: int = 0) -> State:
        """What is new after `seen` records."""
        state = self.runs[run]
        return replace(state, records=state.records[seen:])


def hang_up() -> tuple[Any, str]:
    """A board on the driver's own node, which it shall live as long as, and the name to find it by."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    name = f"board-{uuid.uuid4().hex}"
    return ray.remote(Board).options(name=name, num_cpus=0, scheduling_strategy=here).remote(), name
