"""The memory in which a CPU trains."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEPT = 2**30


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, in blocks of up to 1 GiB, for its next tensors; only with glibc.

    By default glibc gives blocks of 32 MiB and more back, such as 64 float images of 256x256, and the system clears
    other memory for the next tensor: a fifth of the time of a step on two cores. What is kept was up to 0.7 GiB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl and macOS have none
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
