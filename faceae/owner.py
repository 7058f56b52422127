"""The process that has a claim: how it is named in the claim, and whether it still exists."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """The process that has a claim.

    Attributes:
        id: name of the claim, which no other has.
        host: the machine's name.
        pid: the process's number.
        machine: the machine's boot, and the namespace in which `pid` counts; empty where the system does not tell.
        start: when the process started, in ticks since the boot; empty where the system does not tell.
        beat: how often the owner has shown that it lives.
    """

    id: str
    host: str
    pid: int
    machine: str = ""
    start: str = ""
    beat: int = 0

    @staticmethod
    def here() -> Owner:
        """Returns a new owner: this process."""
        pid = os.getpid()
        return Owner(uuid.uuid4().hex, socket.gethostname(), pid, _machine(), _start(pid))

    @staticmethod
    def read(content: bytes) -> Owner | None:
        """Returns the owner that a claim names; None if it cannot be read."""
        try:
            return Owner(**json.loads(content))
        except (ValueError, TypeError):
            return None

    def __str__(self) -> str:
        return f"{self.host} (pid {self.pid})"

    def content(self) -> bytes:
        """Returns the content of a claim of this owner."""
        return json.dumps(asdict(self)).encode()

    def alive(self) -> bool | None:
        """Whether the owner's process exists; None if it is not one of this machine, so that nobody here can tell."""
        if not self.machine or self.machine != _machine():
            return None
        return self.start != "" and _start(self.pid) == self.start


def _machine() -> str:
    """Returns what names this boot of this machine, and the namespace of its process numbers; empty if unknown."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


def _start(pid: int) -> str:
    """Returns when a process of this machine started, in ticks since the boot; empty if there is no such process."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except OSError:
        return ""
