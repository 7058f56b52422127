"""Writes in a thread: their order, and what happens when the storage refuses one."""

import threading

from faceae.training.writer import Writer


def test_writes_happen_in_order_while_the_caller_goes_on():
    writer, gate, done = Writer("somewhere"), threading.Event(), []
    writer.submit(lambda: (gate.wait(), done.append(1)))
    assert not writer.idle
    assert not done
    gate.set()
    for number in (2, 3):
        writer.submit(lambda number=number: done.append(number))
    writer.wait()
    assert done == [1, 2, 3]
    assert writer.idle
    assert writer.refusal is None


def test_nothing_is_written_after_a_refusal():
    writer, done = Writer("out/run"), []

    def refuse():
        raise OSError(28, "No space left on device")

    writer.submit(lambda: done.append(1))
    writer.submit(refuse)
    writer.submit(lambda: done.append(2))
    writer.wait()
    assert done == [1]
    assert "out/run" in writer.refusal
    assert "No space left" in writer.refusal


def test_an_error_of_our_own_is_not_taken_for_the_storages():
    writer = Writer("out/run")
    writer.submit(lambda: 1 / 0)
    try:
        writer.wait()
    except ZeroDivisionError:
        return
    raise AssertionError("the error was swallowed")
