"""Tells two kinds of error in a training worker apart: a lost worker or store, after which other workers may succeed,
and everything else that the training code raises, which would only happen again."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from faceae import ray_compat
from faceae.errors import one_line

LESS_MEMORY = "use a smaller network, --train.batch-size or --data.image-size"
"""What helps against a lack of memory."""

VMSTAT = Path("/proc/vmstat")
"""Counts what the kernel has killed."""

_LOSSES = (RayError, dist.DistError, OSError)
_NO_LOSSES = (FileNotFoundError, PermissionError)


def is_loss(error: BaseException) -> bool:
    """Whether an error means that another process, a node, a device or the store was lost, rather than a wrong setting.

    Such are Ray's errors, those of NCCL and gloo (which raises plain RuntimeErrors), a GPU's hardware errors, and those
    of a disk or a store, which has been tried for two minutes by then.
    """
    return any(map(_is_loss, _chain(error)))


def _is_loss(error: BaseException) -> bool:
    if isinstance(error, _LOSSES):
        return not isinstance(error, _NO_LOSSES)
    if isinstance(error, torch.AcceleratorError):
        return not (_is_out_of_memory(error) or "device-side assert" in str(error))
    return isinstance(error, RuntimeError) and "/gloo/" in str(error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and those that it was raised from, or while they were handled."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = ray_compat.cause_of_death(each) or each.__cause__ or each.__context__


def reason(error: BaseException) -> str:
    """Returns an error that would only happen again as one line, with advice where there is any."""
    text = f"{type(error).__name__}: {one_line(error)}"
    if _is_out_of_memory(error):
        return f"out of memory ({text}); {LESS_MEMORY}"
    return text


def _is_out_of_memory(error: BaseException) -> bool:
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return memory or "out of memory" in str(error) or "can't allocate memory" in str(error)


def cause(error: BaseException, killed_before: int) -> str:
    """Returns why a worker group has lost workers, in one line.

    Args:
        error: Ray Train's error.
        killed_before: `kernel_kills` when the group started.
    """
    failures = getattr(error, "worker_failures", None) or {0: getattr(error, "controller_failure", error)}
    chains = [list(_chain(failures[rank])) for rank in sorted(failures)]
    for each in itertools.chain(*chains):
        if isinstance(each, OutOfMemoryError):
            return f"{one_line(each)}; {LESS_MEMORY}, or fewer --scale.workers"
    if kernel_kills() > killed_before:
        return f"the memory ran out, and the kernel killed a process; {LESS_MEMORY}, or fewer --scale.workers"
    died = (each for each in itertools.chain(*chains) if isinstance(each, RayActorError))
    return one_line(next(died, chains[0][0]))


def kernel_kills() -> int:
    """Returns how many processes the kernel of this machine has killed since it booted because memory ran out."""
    try:
        found = re.search(r"^oom_kill (\d+)$", VMSTAT.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return 0
    return int(found[1]) if found else 0
