"""The memory that a training process keeps, in a process of its own, because nothing takes the setting back."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import psutil
from faceae.training.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
before = psutil.Process().memory_info().rss
block = bytearray(b"1") * {size}
del block
print(psutil.Process().memory_info().rss - before)
"""
SIZE = 2**26


def kept(keep):
    """Returns how many more bytes a process has after it has filled 64 MiB and freed them."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep, size=SIZE)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_freed_memory_is_kept_for_the_next_tensor():
    assert kept(keep=False) < SIZE / 2
    assert kept(keep=True) > SIZE / 2
