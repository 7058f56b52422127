"""Ctrl-C, while Ray works in other threads."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def heard_ctrl_c() -> Iterator[threading.Event]:
    """Hears the first Ctrl-C as an event, to be looked at between two calls of Ray's; the second raises as ever.

    An exception that is raised wherever the main thread happens to be can get lost in a library: in one of about ten
    runs of the test of a stopped grid, the grid ran on.
    """
    event = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield event
        return

    def hear(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hear)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
