"""What the coordinator tells the driver, the trials and the worker groups; without Ray."""

import asyncio

import pytest

from faceae.cluster.coordinator import Coordinator, Pause, Verdict

RUNS = "abc"


async def coordinator(*submitted):
    """A coordinator that knows three runs."""
    made = Coordinator()
    for name in RUNS:
        await made.register(name, [f"spec of {name}"], epochs=3, metric="mse")
    for name in submitted:
        await made.submit(name)
    return made


def record(epoch, mse=0.5):
    return {"epoch": epoch, "val": {"mse": mse / epoch}}


def play(scene):
    """Runs a test, with a limit for those that wait for ever."""
    asyncio.run(asyncio.wait_for(scene(), 10))


async def is_waiting(coroutine):
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_groups_take_one_run_after_another_and_all_ranks_the_same():
    async def scene():
        known = await coordinator("a", "b", "c")
        assert [await known.next_run("one", None) for _rank in range(2)] == [(0, ["spec of a"])] * 2
        assert await known.next_run("two", None) == (0, ["spec of b"])
        assert await known.give_up("two", "it broke")
        changes = await known.changes(0, {})
        assert changes.runs["b"].failure == "it broke"
        assert await known.next_run("two", None) == (1, ["spec of c"])
        assert await known.next_run("one", None) == (0, ["spec of a"])  # as after the loss of a worker
        await known.finish("one")
        await known.finish("one")  # nothing to finish: nothing happens
        idle = await is_waiting(known.next_run("one", 1))
        await known.close()
        assert await idle is None
        assert await known.next_run("two", 1) == (1, ["spec of c"])  # a rank that is late

    play(scene)


def test_a_run_is_not_lost_to_ranks_of_workers_that_have_died():
    """They may still wait for a run when it comes; those that replace them train it."""

    async def scene():
        known = await coordinator()
        dead = await is_waiting(known.next_run("one", None))
        await known.submit("a")
        assert await dead == (0, ["spec of a"])
        assert await known.next_run("one", None) == (0, ["spec of a"])

    play(scene)


def test_without_any_group_nothing_can_be_trained():
    async def scene():
        known = await coordinator()
        waiting = await is_waiting(known.changes(known.version, {}))
        assert not await known.give_up("one", "no room")
        assert (await waiting).failure == "no room"

    play(scene)


def test_a_group_whose_run_failed_goes_on_if_there_may_be_more():
    async def scene():
        known = await coordinator("a", "b")
        for name, more in (("a", True), ("b", False)):
            _, spec = await known.next_run("one", None)
            assert spec == [f"spec of {name}"]
            if name == "b":
                await known.close()
            assert await known.give_up("one", "workers were lost") is more

    play(scene)


def test_the_driver_hears_of_changes_and_of_each_record_once():
    async def scene():
        known = await coordinator()
        waiting = await is_waiting(known.changes(0, {}))
        await known.started("a", "cpu", 2, [record(1)], 64)
        version, runs, failure = await waiting
        assert failure is None
        assert list(runs) == ["a"]
        assert (runs["a"].records, runs["a"].begun, runs["a"].workers) == ([record(1)], (1, 64), 2)
        waiting = await is_waiting(known.changes(version, {"a": 1}))
        await known.epoch("a", record(2))
        assert (await waiting).runs["a"].records == [record(2)]

    play(scene)


def test_an_epoch_whose_report_was_lost_comes_with_the_checkpoint():
    async def scene():
        known = await coordinator()
        await known.started("a", "cpu", 1, [], 0)
        await known.step("a", 1, 64)
        await known.started("a", "cpu", 1, [record(1)], 0)  # the worker died between checkpoint and report
        status = (await known.changes(0, {})).runs["a"]
        assert status.records == [record(1)]
        assert status.begun == (0, 0)
        assert "training goes on with 1 worker in epoch 2, " in status.notes[0]

    play(scene)


def test_a_replacement_says_how_many_images_come_again():
    async def scene():
        known = await coordinator()
        await known.started("a", "cpu", 2, [], 0)
        await known.step("a", 1, 640)
        await known.started("a", "cpu", 1, [], 512)
        (note,) = (await known.changes(0, {})).runs["a"].notes
        assert "with 1 worker in epoch 1, image 512 (128 images again), " in note

    play(scene)


def test_workers_hear_at_a_step_what_is_asked_of_them():
    async def scene():
        known = await coordinator("a")
        await known.next_run("one", None)
        await known.started("a", "cpu", 1, [], 0)
        assert await known.step("a", 1, 8) == Pause.NONE
        await known.move("one")
        assert await known.step("a", 1, 16) == Pause.MOVE
        await known.started("a", "cpu", 2, [], 16)
        assert await known.step("a", 1, 24) == Pause.NONE
        await known.decide("a", Verdict(False))
        assert await known.step("a", 1, 32) == Pause.STOP

    play(scene)


def test_a_trial_waits_for_its_epochs_and_its_end():
    async def scene():
        known = await coordinator("a", "b")
        await known.next_run("one", None)
        first = await is_waiting(known.next_epoch("a", 0))
        await known.started("a", "cpu", 1, [record(1), record(2)], 0)  # of an earlier session
        assert await first == {"value": 0.5, "epoch": 1, "over": False, "done": False}
        assert (await known.next_epoch("a", 1))["epoch"] == 2
        third = await is_waiting(known.next_epoch("a", 2))
        await known.epoch("a", record(3))
        assert (await third)["over"]
        assert (await third)["epoch"] == 3
        await known.finish("one")
        assert await known.next_epoch("a", 3) == await third
        await known.next_run("one", None)
        failed = await is_waiting(known.next_epoch("b", 0))
        await known.finish("one", "the loss is NaN")
        assert await failed == {"value": float("inf"), "epoch": 0, "over": True, "done": True}

    play(scene)


@pytest.mark.parametrize("started", [True, False])
def test_stopping_waits_for_runs_that_are_trained(started):
    async def scene():
        known = await coordinator("a")
        if not started:
            await known.stopped(["a"])
            return
        await known.next_run("one", None)
        await known.started("a", "cpu", 1, [], 0)
        waiting = await is_waiting(known.stopped(["a", "b"]))
        await known.finish("one")
        await waiting

    play(scene)
