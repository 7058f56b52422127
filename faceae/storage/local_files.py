"""Files on a local disk: walks a folder, and writes a file so that nobody sees a part of it."""

from __future__ import annotations

import errno
import heapq
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial")  # the names of files that are being written
_LONGEST_STEM = 200  # bytes of a file's name that such a name repeats: file systems allow 255 in all


def walk(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the files below a folder: the path of each, relative to it, and what the file system knows of it.

    Links to folders are followed, but a folder to which several paths lead is entered once: links would multiply its
    files, or have no end.

    Raises:
        OSError: the folder is missing, or it or one below it cannot be read.
    """
    folders, links = [("", os.path.realpath(top))], list[tuple[str, str]]()
    seen: set[str] = set()
    while folders or links:
        # Links come last, in the order of their names: a file that has a path without links is found under that one.
        name, real = folders.pop() if folders else heapq.heappop(links)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(os.path.join(top, name)) as entries:
            for entry in entries:
                path = name + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append((f"{path}/", os.path.join(real, entry.name)))
                elif entry.is_symlink() and os.path.isdir(entry.path):
                    heapq.heappush(links, (f"{path}/", os.path.realpath(entry.path)))
                elif (known := _known(entry)) and stat.S_ISREG(known.st_mode):
                    yield path, known


def _known(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # it has just disappeared, or is a link that leads nowhere
            return None
        raise


def write(path: str, content: bytes | memoryview[int]) -> None:
    """Writes a file and makes its folders. A reader sees either the old or the new content, never a part of it.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    stem = target.name.encode()[:_LONGEST_STEM].decode(errors="ignore")
    partial = target.with_name(f".{stem}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def is_partial(name: str) -> bool:
    """Returns whether a path is that of a file which a killed process left half-written."""
    return bool(_PARTIAL.fullmatch(name.rsplit("/", 1)[-1]))
