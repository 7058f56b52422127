"""What all measurements of the data path have in common. It imports neither Ray nor torch: peers run without Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

SIZE, BOX, BATCH = 128, 28, 64
LATER_EPOCHS = 6
CORES = len(os.sched_getaffinity(0))


def rate(work: Callable[[], int]) -> float:
    """Returns the images/s of work that returns how many images it has done."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)
