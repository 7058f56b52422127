"""The folder into which pictures are restored: who writes there, and whether what is there is ours and still fits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pyarrow import ArrowException

from faceae import claim, storage
from faceae.data import rejected
from faceae.errors import InputError
from faceae.reporting import restored

SUMMARY = "summary.json"
MADE_BY = "jobs/reconstruct.py"
"""The value of `made_by` in our summaries; training runs also leave files named summary.json."""

OURS = (SUMMARY, rejected.FILE, claim.FILE, restored.FILE)
"""The files that the job writes besides the restored pictures."""

OPTIONS = {"task": None, "grow": 0, "feather": 0, "format": "png"}
"""The flags on which the restored pictures depend; their values, in a summary that lacks them, were these."""

Summary = dict[str, Any]


@contextlib.contextmanager
def held(dest: str) -> Iterator[None]:
    """Keeps other processes from writing to a folder during a with block.

    Raises:
        InputError: another process writes there, or the folder cannot be written.
    """
    try:
        storage.check_bucket(dest)
        holder = claim.take(dest, dest)
    except InputError as error:
        raise InputError(f"DEST {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"DEST {storage.explain(error, dest)}") from None
    with holder:
        yield


def begin(summary: Summary, dest: str) -> set[str]:
    """Writes the unfinished summary, which also shows whether the folder can be written.

    Returns:
        The names of the files that are there.

    Raises:
        InputError: the folder cannot be written, was not written by this job, or holds pictures that were restored with
            another model, source or masks.
    """
    try:
        files = storage.list_files(dest, missing_ok=True)
        half_written = [name for name in files if storage.is_partial(name)]
        there = set(files).difference(half_written, [claim.FILE])
        if there:
            before = _read_summary(dest)
            if there.difference(OURS):
                _check_same(before, summary, dest)
        for name in half_written:
            storage.delete(storage.join(dest, name))
        storage.write_json(storage.join(dest, SUMMARY), summary)
    except InputError as error:
        raise InputError(f"DEST {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"DEST {storage.explain(error, dest)}") from None
    return there


def _read_summary(dest: str) -> Summary:
    """Returns the summary that this job has left in a folder.

    Raises:
        InputError: there is none, or that of another program.
    """
    try:
        summary = storage.read_object(storage.join(dest, SUMMARY))
    except FileNotFoundError:
        summary = {}
    if summary.get("made_by") != MADE_BY:
        raise InputError(f"{dest}: it has files, but is not a folder that reconstruct wrote; name another folder")
    return summary


def _check_same(before: Summary, now: Summary, dest: str) -> None:
    """Checks that the pictures in a folder are those that the same command would give.

    Raises:
        InputError: they were restored with another model, source or masks, or other flags.
    """
    differing = []
    try:
        if before["model"]["sha256"] != now["model"]["sha256"]:
            differing.append(f"MODEL ({before['model']['uri']} then)")
        for flag, key in (("SOURCE", "source"), ("--masks", "masks")):
            if before[f"{key}_sha256"] != now[f"{key}_sha256"]:
                differing.append(f"{flag} ({before[key]} then)")
        for name, default in OPTIONS.items():
            if before.get(name, default) != now[name]:
                differing.append(f"--{name} ({before.get(name, default)} then)")
    except (KeyError, TypeError):
        raise InputError(f"{storage.join(dest, SUMMARY)}: is damaged; name another folder") from None
    if differing:
        raise InputError(
            f"{dest}: holds pictures that were restored with another {' and another '.join(differing)}, or files in it "
            "have changed since; name another folder"
        )
