"""No run is lost, ended without training or trained twice at a time, whatever dies and however late its calls arrive.

The real coordinator, without Ray; worker groups, their deaths and their late calls are simulated.
"""

import asyncio
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from faceae.cluster.coordinator import Coordinator
from faceae.cluster.protocol import Attempt
from faceae.errors import RunFailedError

RUNS, RANKS = "abcd", 2
EPOCHS = 2


@dataclass
class Workers:
    """One start of a worker group.

    Attributes:
        attempt: its name and number.
        asked: each rank's call for a run that has not been answered; None if the rank trains or has ended.
        training: the number and name of each rank's run; None between runs.
        ended: whether each rank was told that no run is left.
        failed: the runs that its ranks have ended.
    """

    attempt: Attempt
    asked: list[asyncio.Task | None] = field(default_factory=lambda: [None] * RANKS)
    training: list[tuple[int, str] | None] = field(default_factory=lambda: [None] * RANKS)
    ended: list[bool] = field(default_factory=lambda: [False] * RANKS)
    alive: bool = True


class Grid(RuleBasedStateMachine):
    """A driver, two worker groups, and Ray Tune."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.coordinator = self.call(self._make())
        self.submitted: list[str] = []
        self.finished: set[str] = set()  # the runs that workers have trained to their end, or that a group gave up
        self.live: dict[str, Workers | None] = {}
        self.ghosts: list[Workers] = []
        self.late: list = []  # calls of dead workers that are still under way
        self.closed = False

    async def _make(self):
        made = Coordinator()
        for name in RUNS:
            await made.register(name, [name], epochs=EPOCHS, metric="mse")
        return made

    def call(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def settle(self):
        """Lets all answers arrive."""

        async def turn():
            for _ in range(20):
                await asyncio.sleep(0)

        self.call(turn())
        for workers in [*filter(None, self.live.values()), *self.ghosts]:
            for rank, asked in enumerate(workers.asked):
                if asked and asked.done():
                    workers.asked[rank] = None
                    if asked.exception() or asked.result() is None:
                        assert not (workers.alive and asked.exception())
                        workers.ended[rank] = True
                    else:
                        number, (name,) = asked.result()
                        workers.training[rank] = number, name

    def ask(self, workers, rank, number):
        workers.asked[rank] = self.loop.create_task(self.coordinator.next_run(workers.attempt, number))

    def start(self, group):
        self.live[group] = workers = Workers(self.call(self.coordinator.start_group(group)))
        for rank in range(RANKS):
            self.ask(workers, rank, None)
        self.settle()

    @initialize()
    def begin(self):
        for group in ("one", "two"):
            self.start(group)

    @precondition(lambda self: len(self.submitted) < len(RUNS) and not self.closed)
    @rule()
    def submit(self):
        self.submitted.append(RUNS[len(self.submitted)])
        self.call(self.coordinator.submit(self.submitted[-1]))
        self.settle()

    @precondition(lambda self: len(self.submitted) == len(RUNS) and not self.closed and not self.coordinator.queue)
    @rule()
    def close(self):
        self.closed = True
        self.call(self.coordinator.close())
        self.settle()

    groups = st.sampled_from(["one", "two"])

    @rule(group=groups, first=st.sampled_from(range(RANKS)), failure=st.sampled_from([None, "the loss is NaN"]))
    def finish(self, group, first, failure):
        """All ranks of a group are done with their run; `first` is the rank that goes on first."""
        workers = self.live[group]
        if workers is None or not all(workers.training) or len(set(workers.training)) > 1:
            return
        (number, name) = workers.training[0]
        self.finished.add(name)
        for rank in sorted(range(RANKS), key=lambda rank: rank != first):
            if rank == 0:
                self.call(self.report(workers, failure))
            workers.training[rank] = None
            self.ask(workers, rank, number + 1)
        self.settle()

    async def report(self, workers, failure):
        try:
            await self.coordinator.finish(workers.attempt, failure)
        except RunFailedError:
            assert not workers.alive

    @rule(group=groups, reported=st.booleans())
    def die(self, group, reported):
        """A group loses a worker; its last calls may still be under way. It is replaced."""
        if not self.bury(group, reported):
            return
        self.call(self.coordinator.worker_lost(group))
        self.start(group)

    @rule(group=groups, reported=st.booleans())
    def give_up(self, group, reported):
        """A group cannot be started again."""
        if not self.bury(group, reported):
            return
        current = self.coordinator.groups[group].current
        more = self.call(self.coordinator.give_up(group, "workers were lost"))
        if current:
            self.finished.add(current)
        self.settle()
        if more:
            self.start(group)

    def bury(self, group, reported):
        workers = self.live.get(group)
        if workers is None or all(workers.ended):
            return False
        workers.alive = False
        self.live[group] = None
        self.ghosts.append(workers)
        if reported and all(workers.training) and len(set(workers.training)) == 1:
            self.late.append((workers, workers.training[0][1]))
        return True

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def a_dead_worker_reports(self, data):
        workers, name = self.late.pop(data.draw(st.sampled_from(range(len(self.late)))))
        self.finished.add(name)
        self.call(self.report(workers, None))
        self.settle()

    @precondition(lambda self: self.ghosts)
    @rule(data=st.data(), rank=st.sampled_from(range(RANKS)))
    def a_dead_worker_asks(self, data, rank):
        workers = data.draw(st.sampled_from(self.ghosts))
        if workers.asked[rank] is None and not workers.ended[rank]:
            trained = workers.training[rank]
            workers.training[rank] = None
            self.ask(workers, rank, trained[0] + 1 if trained else None)
            self.settle()

    @invariant()
    def a_run_is_trained_by_one_group_at_a_time(self):
        trained = [
            {training[1] for training in workers.training if training} for workers in self.live.values() if workers
        ]
        assert all(len(names) <= 1 for names in trained)
        assert sum(map(len, trained)) == len(set().union(*trained))

    @invariant()
    def a_run_ends_only_after_it_was_trained_or_given_up(self):
        ended = {name for name, run in self.coordinator.runs.items() if run.status.ended}
        assert ended <= self.finished

    def teardown(self):
        """From here on nothing dies: the grid must end."""
        try:
            if self.live:
                self.end()
        finally:
            for workers in [*filter(None, self.live.values()), *self.ghosts]:
                for asked in filter(None, workers.asked):
                    asked.cancel()
            self.call(asyncio.sleep(0))
            self.loop.close()

    def end(self):
        for _ in range(50):
            if self.coordinator.failure or not any(self.live.values()):
                break
            if len(self.submitted) < len(RUNS) and not self.closed:
                self.submit()
            elif not self.closed and not self.coordinator.queue:
                self.close()
            for group in self.live:
                self.finish(group, 0, None)
            for group, workers in self.live.items():
                if workers and all(workers.ended):
                    self.live[group] = None
            self.a_run_is_trained_by_one_group_at_a_time()
            self.a_run_ends_only_after_it_was_trained_or_given_up()
        if self.coordinator.failure:
            return
        assert not any(self.live.values())
        assert (
            {name for name, run in self.coordinator.runs.items() if run.status.ended}
            == set(self.submitted)
            == set(RUNS)
        )


Grid.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestGrid = Grid.TestCase
