"""The board between the driver and the training workers: what is to be trained, and how far it is.

Runs as a Ray actor, since they share neither process nor machine. A run is named by its URI. A *crew* is a group of
Ray Train workers (`faceae.cluster.worker_groups`): it takes one run after the other, until there are no more.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from faceae.console import clock, count

WAIT_S = 0.05
"""Seconds between two looks for the next run of a crew."""


class Pause(IntEnum):
    """Why the workers leave an epoch before its end; of several reasons the greatest holds."""

    NONE = 0
    SAVE = 1
    """A checkpoint is due; then they go on."""
    TIME_UP = 2
    """The budget of minutes is used: the epoch ends here."""
    MOVE = 3
    """Another group of workers shall go on: a node will be taken away, or there is room for more of them."""
    STOP = 4
    """The run shall end here; it can be resumed."""


class Task(NamedTuple):
    """A run to train.

    Attributes:
        run: its URI.
        job: the reference of its `faceae.data.dataset.Job`, in a list lest Ray resolve it on the way.
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
        workers: how many of them there are.
        begun: (finished epochs, images of the next one) when they first started.
        notes: what a person should know.
        order: what the workers are asked to do.
        ended: whether training has, one way or another.
        heard: when there was the last word of a step, on the clock of the board's process.
        first_step: when the first step was done (seconds since 1970); 0 before.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    step: tuple[int, int] | None = None
    failure: str | None = None
    device: str = ""
    workers: int = 0
    begun: tuple[int, int] = (0, 0)
    notes: list[str] = field(default_factory=list)
    order: Pause = Pause.NONE
    ended: bool = False
    heard: float = 0.0
    first_step: float = 0.0


@dataclass
class Crew:
    """A group of workers, and those that take its place.

    Attributes:
        taken: its runs.
        done: how many of them are over.
        saved: checkpoints that it has written.
    """

    taken: list[Task] = field(default_factory=list)
    done: int = 0
    saved: int = 0


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
        """How many of its runs are over: where the next workers of a crew begin."""
        return self.crews[crew].done

    async def lose(self, crew: str) -> int:
        """Says that a crew has lost a worker and others will start; returns how many checkpoints it has written."""
        work = self.crews[crew]
        for task in work.taken[work.done :]:
            self.runs[task.run].notes.append("a worker was lost; others start")
        return work.saved

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

    async def start(self, run: str, device: str, workers: int, begun: tuple[int, int]) -> None:
        """Says that the workers are at a run, and where they start: (finished epochs, images of the next one)."""
        state = self.runs[run]
        if state.device:
            here = f"epoch {begun[0] + 1}" + (f", image {begun[1]}" if begun[1] else "")
            epoch, images = state.step or (begun[0] + 1, begun[1])
            again = f" ({images - begun[1]} images again)" if epoch == begun[0] + 1 and images > begun[1] else ""
            after = clock(time.monotonic() - state.heard)
            state.notes.append(f"training goes on with {count(workers, 'worker')} in {here}{again}, {after} later")
        else:
            state.begun = begun
        state.device, state.workers, state.heard = device, workers, time.monotonic()
        if state.order == Pause.MOVE:
            state.order = Pause.NONE

    async def step(self, run: str, epoch: int, images: int) -> Pause:
        """Says how many images of an epoch are done; returns what is asked of the workers."""
        state = self.runs[run]
        state.step, state.heard = (epoch, images), time.monotonic()
        state.first_step = state.first_step or time.time()
        return state.order

    async def saved(self, crew: str) -> None:
        """Says that a checkpoint is written."""
        self.crews[crew].saved += 1

    async def epoch(self, run: str, record: dict[str, Any]) -> None:
        """Adds a finished epoch."""
        state = self.runs[run]
        state.records.append(record)
        state.step, state.heard = None, time.monotonic()

    async def note(self, run: str, text: str) -> None:
        """Adds what a person should know."""
        self.runs[run].notes.append(text)

    async def stop(self, run: str) -> None:
        """Asks the workers to end a run with a checkpoint, at their next word about a step."""
        self.runs[run].order = Pause.STOP

    async def move(self, crew: str) -> None:
        """Asks the workers of a crew to make room for others, likewise."""
        work = self.crews[crew]
        for task in work.taken[work.done :]:
            state = self.runs[task.run]
            state.order = max(state.order, Pause.MOVE)
            state.notes.append("there is room for more workers; all start anew")

    async def read(self, run: str, seen: int = 0) -> State:
        """What is new after `seen` records."""
        state = self.runs[run]
        return replace(state, records=state.records[seen:])


def here() -> NodeAffinitySchedulingStrategy:
    """Puts an actor on the driver's own node, which it shall live as long as."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def hang_up() -> tuple[Any, str]:
    """A board beside the driver, and the name to find it by."""
    name = f"board-{uuid.uuid4().hex}"
    return ray.remote(Board).options(name=name, num_cpus=0, scheduling_strategy=here()).remote(), name
