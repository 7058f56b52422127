"""What the coordinator tells the driver, the trials and the worker groups; without Ray."""

import asyncio

import pytest

from faceae.cluster.coordinator import Coordinator
from faceae.cluster.protocol import Attempt, Pause, Verdict
from faceae.errors import RunFailedError

RUNS = "abc"
ONE, TWO = Attempt("one", 1), Attempt("two", 1)


async def make_coordinator(*submitted):
    """Returns a coordinator with two worker groups and three registered runs, of which some are submitted."""
    made = Coordinator()
    assert [await made.start_group(group) for group in ("one", "two")] == [ONE, TWO]
    for name in RUNS:
        await made.register(name, [f"spec of {name}"], epochs=3, metric="mse")
    for name in submitted:
        await made.submit(name)
    return made


def record(epoch, mse=0.5):
    measured = {"images": 10, "images_per_second": 5.0, "data_wait_fraction": 0.0, "train_loss": 0.1}
    return {"epoch": epoch, "val": {"mse": mse / epoch}, **measured}


def play(scene):
    """Runs the body of a test, with a time limit in case it waits forever."""
    asyncio.run(asyncio.wait_for(scene(), 10))


async def is_waiting(coroutine):
    """Returns the coroutine's task after checking that it waits."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_worker_groups_take_runs_in_turn_and_all_ranks_get_the_same_one():
    async def scene():
        coordinator = await make_coordinator("a", "b", "c")
        assert [await coordinator.next_run(ONE, None) for _rank in range(2)] == [(0, ["spec of a"])] * 2
        assert await coordinator.next_run(TWO, None) == (0, ["spec of b"])
        assert await coordinator.give_up("two", "it broke")
        changes = await coordinator.changes(0, {})
        assert changes.runs["b"].failure == "it broke"
        two = await coordinator.start_group("two")
        assert await coordinator.next_run(two, None) == (1, ["spec of c"])
        assert await coordinator.next_run(ONE, None) == (0, ["spec of a"])  # as after a worker was lost
        await coordinator.finish(ONE)
        await coordinator.finish(ONE)  # nothing to finish: it does nothing
        idle = await is_waiting(coordinator.next_run(ONE, 1))
        await coordinator.close()
        assert await idle is None
        assert await coordinator.next_run(two, 1) == (1, ["spec of c"])  # a rank that asks late

    play(scene)


def test_a_run_is_not_lost_if_it_goes_to_workers_that_have_died():
    """Their requests may still be waiting when the run is submitted; the workers that replace them train it."""

    async def scene():
        coordinator = await make_coordinator()
        dead = await is_waiting(coordinator.next_run(ONE, None))
        await coordinator.submit("a")
        assert await dead == (0, ["spec of a"])
        assert await coordinator.next_run(await coordinator.start_group("one"), None) == (0, ["spec of a"])

    play(scene)


def test_workers_that_have_been_replaced_are_refused():
    async def scene():
        coordinator = await make_coordinator()
        dead = await is_waiting(coordinator.next_run(ONE, None))
        alive = await coordinator.start_group("one")
        with pytest.raises(RunFailedError, match="taken over"):
            await dead
        await coordinator.submit("a")
        assert await coordinator.next_run(alive, None) == (0, ["spec of a"])
        await coordinator.started(alive, "a", "cpu", 1, [record(1)], 0)
        late = [
            coordinator.started(ONE, "a", "cpu", 1, [], 0),
            coordinator.step(ONE, "a", 1, 8),
            coordinator.epoch(ONE, "a", record(1)),
            coordinator.confirm(ONE),
            coordinator.checkpointed(ONE, "a", 0.5),
            coordinator.finish(ONE),
        ]
        for call in late:
            with pytest.raises(RunFailedError, match="taken over"):
                await call
        status = (await coordinator.changes(0, {})).runs["a"]
        assert (status.records, status.ended) == ([record(1)], False)
        await coordinator.confirm(alive)

    play(scene)


def test_nothing_can_be_trained_if_a_group_without_a_run_gives_up():
    async def scene():
        coordinator = await make_coordinator()
        waiting = await is_waiting(coordinator.changes(coordinator.version, {}))
        assert not await coordinator.give_up("one", "no room")
        assert (await waiting).failure == "no room"

    play(scene)


def test_a_group_whose_run_failed_continues_if_more_runs_may_come():
    async def scene():
        coordinator = await make_coordinator("a", "b")
        one = ONE
        for name, more in (("a", True), ("b", False)):
            _, spec = await coordinator.next_run(one, None)
            assert spec == [f"spec of {name}"]
            if name == "b":
                await coordinator.close()
            assert await coordinator.give_up("one", "workers were lost") is more
            one = await coordinator.start_group("one")

    play(scene)


def test_the_driver_gets_changes_and_each_record_once():
    async def scene():
        coordinator = await make_coordinator()
        waiting = await is_waiting(coordinator.changes(0, {}))
        await coordinator.started(ONE, "a", "cpu", 2, [record(1)], 64)
        version, runs, failure = await waiting
        assert failure is None
        assert list(runs) == ["a"]
        assert (runs["a"].records, runs["a"].begun, runs["a"].workers) == ([record(1)], (1, 64), 2)
        waiting = await is_waiting(coordinator.changes(version, {"a": 1}))
        await coordinator.epoch(ONE, "a", record(2))
        assert (await waiting).runs["a"].records == [record(2)]

    play(scene)


def test_an_epoch_whose_report_was_lost_comes_with_the_checkpoint():
    async def scene():
        coordinator = await make_coordinator()
        await coordinator.started(ONE, "a", "cpu", 1, [], 0)
        await coordinator.step(ONE, "a", 1, 64)
        await coordinator.started(ONE, "a", "cpu", 1, [record(1)], 0)  # the worker died between checkpoint and report
        status = (await coordinator.changes(0, {})).runs["a"]
        assert status.records == [record(1)]
        assert status.begun == (0, 0)
        assert "training goes on with 1 worker in epoch 2, " in status.notes[0]

    play(scene)


def test_the_note_about_a_replacement_counts_the_repeated_images():
    async def scene():
        coordinator = await make_coordinator()
        await coordinator.started(ONE, "a", "cpu", 2, [], 0)
        await coordinator.step(ONE, "a", 1, 640)
        await coordinator.started(ONE, "a", "cpu", 1, [], 512)
        (note,) = (await coordinator.changes(0, {})).runs["a"].notes
        assert "with 1 worker in epoch 1, image 512 (128 images again), " in note

    play(scene)


def test_workers_get_requests_when_they_report_a_step():
    async def scene():
        coordinator = await make_coordinator("a")
        await coordinator.next_run(ONE, None)
        await coordinator.started(ONE, "a", "cpu", 1, [], 0)
        assert await coordinator.step(ONE, "a", 1, 8) == Pause.NONE
        await coordinator.move("one")
        assert await coordinator.step(ONE, "a", 1, 16) == Pause.MOVE
        await coordinator.started(ONE, "a", "cpu", 2, [], 16)
        assert await coordinator.step(ONE, "a", 1, 24) == Pause.NONE
        await coordinator.decide("a", Verdict(False))
        assert await coordinator.step(ONE, "a", 1, 32) == Pause.STOP

    play(scene)


def test_a_trial_waits_for_its_epochs_and_its_end():
    async def scene():
        coordinator = await make_coordinator("a", "b")
        await coordinator.next_run(ONE, None)
        first = await is_waiting(coordinator.next_epoch("a", 0))
        await coordinator.started(ONE, "a", "cpu", 1, [record(1), record(2)], 0)  # records of an earlier session
        assert await first == {"value": 0.5, "epoch": 1, "over": False, "done": False}
        assert (await coordinator.next_epoch("a", 1))["epoch"] == 2
        third = await is_waiting(coordinator.next_epoch("a", 2))
        await coordinator.epoch(ONE, "a", record(3))
        assert (await third)["over"]
        assert (await third)["epoch"] == 3
        await coordinator.finish(ONE)
        assert await coordinator.next_epoch("a", 3) == await third
        await coordinator.next_run(ONE, None)
        failed = await is_waiting(coordinator.next_epoch("b", 0))
        await coordinator.finish(ONE, "the loss is NaN")
        assert await failed == {"value": float("inf"), "epoch": 0, "over": True, "done": True}

    play(scene)


def test_halt_waits_for_the_runs_that_are_being_trained():
    async def scene():
        coordinator = await make_coordinator("a")
        await coordinator.next_run(ONE, None)
        await coordinator.started(ONE, "a", "cpu", 1, [], 0)
        waiting = await is_waiting(coordinator.halt())
        assert await coordinator.step(ONE, "a", 1, 8) == Pause.STOP
        await coordinator.finish(ONE)
        await waiting

    play(scene)


def test_after_halt_no_run_begins_and_no_verdict_counts():
    """Ray Tune takes a run that ends for complete, and begins the next, as it does not know of the stop."""

    async def scene():
        coordinator = await make_coordinator("a", "b")
        await coordinator.next_run(ONE, None)
        await coordinator.halt()  # a is taken, but has not started; b is in the queue
        await coordinator.submit("c")
        for run in ("b", "c"):
            assert (await coordinator.next_epoch(run, 0))["over"]
        await coordinator.finish(ONE)
        await is_waiting(coordinator.next_run(ONE, None))
        await coordinator.decide("a", Verdict(True))
        assert [run.verdict for run in (await coordinator.changes(0, {})).runs.values()] == [None] * 3

    play(scene)
