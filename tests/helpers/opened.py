"""Counts how often files are opened: the only way to know that no image is decoded twice."""

import ctypes
import os
import struct
from collections import Counter
from pathlib import Path


class Opened:
    """Counts how often any process opens each file in some folders (Linux inotify)."""

    def __init__(self, *folders: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.events = libc.inotify_init1(os.O_NONBLOCK)
        assert self.events >= 0
        for folder in folders:
            assert libc.inotify_add_watch(self.events, str(folder).encode(), 0x20) >= 0  # IN_OPEN

    def count(self) -> Counter:
        """Returns the names of the files opened since the last call, with how often each was opened."""
        counts, content = Counter(), b""
        while True:
            try:
                content += os.read(self.events, 2**16)
            except BlockingIOError:
                break
        while content:
            _, mask, _, length = struct.unpack_from("iIII", content)
            if not mask & 0x40000000:  # a file, not the folder itself
                counts[content[16 : 16 + length].rstrip(b"\0").decode()] += 1
            content = content[16 + length :]
        return counts
