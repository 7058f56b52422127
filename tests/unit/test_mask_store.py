"""The coordinator's masks: who waits for which epoch, what is ordered ahead, what is kept."""

import asyncio

import pytest

from faceae.cluster.mask_store import MaskStore
from faceae.data.epoch import Drawn, EpochKey
from faceae.errors import RunFailedError


def key(epoch, seed=0):
    return EpochKey(seed, epoch, False)


def drawn(*epochs, seed=0):
    return [Drawn(key(epoch, seed), {0: f"{epoch}-0", 1: f"{epoch}-1"}) for epoch in epochs]


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 5))


def test_whoever_asks_for_an_epoch_also_orders_the_next():
    async def scenario():
        store = MaskStore()
        await store.put(drawn(1), 4)
        assert (await store.get(key(1), 3, [1])).tables == {1: "1-1"}
        assert await store.next_order() == (key(2), 3)
        await store.put(drawn(2, 3), 4)
        await store.get(key(2), 3, [0])
        await store.get(key(3), 3, [0])  # the last: nothing is ordered after it
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.next_order(), 0.05)

    run(scenario())


def test_the_next_burst_is_ordered_when_the_first_epoch_of_one_is_asked_for():
    async def scenario():
        store = MaskStore()
        await store.put(drawn(1), 9)
        await store.put(drawn(2, 3, 4), 9)
        await store.get(key(1), 9, [0])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.next_order(), 0.05)  # epochs 2, 3 and 4 are ahead
        await store.get(key(2), 9, [0])
        assert await store.next_order() == (key(5), 9)

    run(scenario())


def test_all_that_wait_for_an_epoch_get_it_when_it_is_drawn_once():
    async def scenario():
        store = MaskStore()
        waiting = [asyncio.create_task(store.get(key(5), 9, [0])) for _ in range(3)]
        assert await store.next_order() == (key(5), 9)
        await store.put(drawn(5), 4)
        assert {(await each).tables[0] for each in waiting} == {"5-0"}
        assert await store.next_order() == (key(6), 9)  # not epoch 5 again

    run(scenario())


def test_the_epochs_not_used_for_longest_are_dropped_and_drawn_again_when_needed():
    async def scenario():
        store = MaskStore()
        await store.put(drawn(1, 2, 3), 3)
        await store.get(key(1), 3, [0])
        await store.put(drawn(1, seed=7), 3)  # drops epoch 2
        await store.get(key(1), 1, [0])
        await store.get(key(3), 3, [0])
        again = asyncio.create_task(store.get(key(2), 3, [0]))
        assert await store.next_order() == (key(2), 3)
        await store.put(drawn(2), 3)
        assert (await again).tables == {0: "2-0"}

    run(scenario())


def test_a_failure_reaches_those_who_wait_and_those_who_ask_later():
    async def scenario():
        store = MaskStore()
        await store.put(drawn(1), 3)
        waiting = asyncio.create_task(store.get(key(2), 3, [0]))
        await asyncio.sleep(0)
        await store.fail("the store is full")
        for asked in (waiting, store.get(key(3), 3, [0])):
            with pytest.raises(RunFailedError, match="the store is full"):
                await asked
        assert (await store.get(key(1), 3, [0])).key == key(1)
        assert await store.next_order() is None

    run(scenario())
