"""Shifts Python's wall clock by the seconds in the file CLOCK_SHIFT, whenever it changes. Python imports this in each
process that has this folder in PYTHONPATH.

Under LD_PRELOAD, for C++ as well, the kernel's timers would not follow: what waits until a time of day would spin, or
wait for a day.
"""

import os
import time
from pathlib import Path

if "CLOCK_SHIFT" in os.environ:
    true_time, shift = time.time, Path(os.environ["CLOCK_SHIFT"])
    time.time = lambda: true_time() + float(shift.read_text() or 0)
