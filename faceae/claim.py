"""Claims: at most one process works on a folder at a time, on a disk or in a bucket.

The folder's claim.json names the owner while it works. On a disk its lock decides, which the kernel releases when the
owner dies. In a bucket the store decides who writes the file first, and the owner writes it again every `BEAT_S`: a
claim that stays the same for `SILENT_S` belongs to an owner that is dead or suspended, and another process takes it
over, at once if the owner was a process of this machine that has gone. This needs no clocks that agree.

An owner that was suspended may find that another process has its claim. Therefore its workers, too, call `Claim.check`
before they write.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

from pyarrow import ArrowException

from faceae import storage
from faceae.console import out
from faceae.errors import InputError, RunFailedError
from faceae.owner import Owner
from faceae.storage import conditional
from faceae.storage.conditional import Found

FILE = "claim.json"
"""The file in the folder that names the owner of the claim."""

BEAT_S = 10.0
"""Seconds after which the owner of a claim in a bucket shows that it lives."""

SILENT_S = 30.0
"""Seconds without such a sign after which another process may take the claim."""

LOOK_S = 1.0
"""Seconds between two looks at the claim of another process."""


class Claim(NamedTuple):
    """A claim, by which also other processes of the job check that it still holds.

    Attributes:
        uri: the URI of its file.
        id: the `id` of its owner.
    """

    uri: str
    id: str

    def check(self) -> None:
        """Checks that the claim still holds, before something is written.

        Raises:
            RunFailedError: another process has taken it over, or it has ended.
            OSError: the storage failed.
        """
        try:
            owner = Owner.read(storage.read(self.uri))
        except FileNotFoundError:
            owner = None
        if owner is None or owner.id != self.id:
            raise lost(self.uri, owner)


def lost(uri: str, owner: Owner | None) -> RunFailedError:
    """Returns the error of a process whose claim another one, `owner`, has taken over."""
    where = uri.removesuffix(f"/{FILE}")
    return RunFailedError(f"{where}: {owner or 'another process'} has taken over; this one writes nothing more")


def take(folder: str, what: str) -> Holder:
    """Takes the claim on a folder, which is made if it does not exist.

    Args:
        folder: absolute path or URI of the folder.
        what: the setting that names it, with its value, for messages.

    Returns:
        The holder of the claim, as a context manager that gives it back at its end.

    Raises:
        InputError: another process has it.
        OSError: the folder cannot be written.
    """
    if storage.is_remote(folder):
        return _Lease(folder, what)
    try:
        return _Lock(folder, what)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):
            raise
        return _Lease(folder, what)  # a file system without locks


class Holder(ABC):
    """Holds a claim for a with block.

    Attributes:
        claim: the claim.
    """

    def __init__(self, folder: str, what: str) -> None:
        self.what, self.owner = what, Owner.here()
        self.claim = Claim(storage.join(folder, FILE), self.owner.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.release(kind)

    @abstractmethod
    def release(self, kind: type[BaseException] | None) -> None:
        """Gives the claim back; `kind` is the exception with which the job ends.

        Raises:
            RunFailedError: another process has taken it over.
        """

    def _taken(self, other: Owner | None) -> InputError:
        return InputError(
            f"{self.what}: {other or 'another process'} is working on it; wait for its end, or stop it first"
        )

    def _read(self, content: bytes) -> Owner:
        """Reads the claim of another process.

        Raises:
            InputError: a file of another program has that name.
        """
        if other := Owner.read(content):
            return other
        raise InputError(f"{self.what}: {self.claim.uri} was not written by faceae; choose another folder")

    def _say_taken_over(self, other: Owner) -> None:
        where = self.claim.uri.removesuffix(f"/{FILE}")
        out.print(f"note      {where}: {other} that worked on it is gone")


class _Lock(Holder):
    """Holds a claim on a disk."""

    def __init__(self, folder: str, what: str) -> None:
        super().__init__(folder, what)
        self.path = Path(storage.resolve(self.claim.uri)[1])
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # another process has just removed the folder
                continue
            if self._lock():
                break
            os.close(self.file)
        if content := os.pread(self.file, 4096, 0):
            try:
                self._say_taken_over(self._read(content))
            except InputError:
                os.close(self.file)
                raise
        try:
            os.ftruncate(self.file, 0)
            os.pwrite(self.file, self.owner.content(), 0)
        except OSError:  # the disk is full
            self.release(None)
            raise

    def _lock(self) -> bool:
        """Locks the file; returns whether it is still the one at the path: its owner may just have deleted it."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(self.file), os.stat(self.path))
        except BlockingIOError:
            other = Owner.read(os.pread(self.file, 4096, 0))
            os.close(self.file)
            raise self._taken(other) from None
        except FileNotFoundError:
            return False
        except OSError:
            if not os.fstat(self.file).st_size:
                self.path.unlink(missing_ok=True)
            os.close(self.file)
            raise

    def release(self, kind: type[BaseException] | None) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.file)


class _Lease(Holder):
    """Holds a claim in a bucket."""

    def __init__(self, folder: str, what: str) -> None:
        super().__init__(folder, what)
        self.file = self._take()
        self.lost: RunFailedError | None = None
        self.ended = threading.Event()
        self.in_main = threading.current_thread() is threading.main_thread()
        self.thread = threading.Thread(target=self._show_life, daemon=True, name="claim")
        self.thread.start()

    def _take(self) -> Found:
        uri, mine = self.claim.uri, self.owner.content()
        first: Found | None = None
        since = 0.0
        while True:
            found = conditional.read(uri)
            if found is None:
                if written := conditional.write(uri, mine, None):
                    return written
                continue
            if found.content == mine:  # it was written, but the store's answer was lost
                return found
            other = self._read(found.content)
            alive = other.alive()
            if alive or (first and found.content != first.content):
                raise self._taken(other)
            if first is None:
                first, since = found, time.monotonic()
                if alive is None:
                    out.print(f"waiting   {SILENT_S:.0f} s at most: does {other} still work here?")
            if alive is None and time.monotonic() - since < SILENT_S:
                time.sleep(LOOK_S)
            elif written := conditional.write(uri, mine, found):
                self._say_taken_over(other)
                return written

    def _show_life(self) -> None:
        """Writes the claim again every `BEAT_S`, until it ends or is lost."""
        while not self.ended.wait(BEAT_S):
            self.owner = replace(self.owner, beat=self.owner.beat + 1)
            try:
                if written := conditional.write(self.claim.uri, self.owner.content(), self.file):
                    self.file = written
                    continue
                found = conditional.read(self.claim.uri)
            except (OSError, ArrowException, InputError):  # the store is away
                continue
            other = found and Owner.read(found.content)
            if found and other and other.id == self.owner.id:  # it was written, but the store's answer was lost
                self.file = found
            elif not self.ended.is_set():
                self.lost = lost(self.claim.uri, other)
                if self.in_main:
                    os.kill(os.getpid(), signal.SIGINT)  # ends the job wherever it is
                return

    def release(self, kind: type[BaseException] | None) -> None:
        self.ended.set()
        self.thread.join()
        if self.lost:
            if kind is None or issubclass(kind, KeyboardInterrupt):
                raise self.lost from None
            return
        with contextlib.suppress(OSError, ArrowException, InputError, RunFailedError):  # then it falls silent
            self.claim.check()
            storage.delete(self.claim.uri)
