"""What faults of stores and disks cost a run: away, slow, full, damaged, or refusing. Part of `make faults`."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting import SlowLink
from multinode import BATCH, IMAGES, SAME, difference, processes, until

from faceae import storage

pytest_plugins = ["multinode"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("when", ["reading", "checkpoint"])
def test_the_store_is_unreachable_for_20_seconds(cluster, seaweed, start, undisturbed, table, when):
    run = start()
    if when == "reading":
        until(lambda: processes(cluster, "ray::ReadFaceSource"), "reading", run)
    else:
        after = int(run.wait_for_checkpoint(1)[:5])
    seaweed.stop()
    stopped = time.monotonic()
    try:
        time.sleep(20)
    finally:
        seaweed.start()
    if when == "reading":
        run.wait_for("decoded ")
    else:
        run.wait_for_checkpoint(after + 1, inside=False)
        assert "cannot be reached; check AWS_ENDPOINT_URL and the network; trying again" in run.text
    seconds = time.monotonic() - stopped - 20
    text = run.end()
    off = difference(run, undisturbed)
    assert off < SAME
    assert "a worker was lost" not in text
    table(f"the S3 server is unreachable for 20 s, {when}", 0, seconds, off, "requests are retried for two minutes")


def waited(run) -> float:
    """Seconds between the first and the last record of a run in which no epoch was trained."""
    records = storage.read_lines(f"{run.uri}/metrics.jsonl")
    return records[-1]["time"] - records[0]["time"] - sum(record["seconds"] for record in records[1:])


def test_the_store_is_slow(seaweed, start, undisturbed, table):
    with SlowLink(seaweed.ports["-s3.port"], latency_s=0.2, bytes_per_s=1e6) as link:
        run = start(environment={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{link.port}"})
        run.end()
    assert link.counts[b"GET"] > IMAGES // 2  # threads count; some may be lost
    off = difference(run, undisturbed)
    assert off < SAME
    what = f"training waits for writes between epochs, {waited(run):.0f} s in all"
    table("the S3 server is slow: 200 ms, 1 MB/s", 0, None, off, what)


@contextlib.contextmanager
def small_disk(folder: Path, bytes_per_s: int) -> Iterator[Path]:
    """A disk of its own that writes at once, and no faster than this."""
    image, limit = folder / "image", Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
    disk = folder / "disk"
    disk.mkdir()
    image.touch()
    os.truncate(image, 64 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if not limit.exists() or subprocess.run(["mount", "-o", "loop,sync", image, disk], check=False).returncode:
        pytest.skip("slowing a disk down is not permitted here")
    device = os.stat(disk).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        limit.write_text(f"{name} {bytes_per_s}")
        yield disk
    finally:
        limit.write_text(f"{name} 0")
        subprocess.run(["umount", "--lazy", disk], check=False)


def test_a_disk_is_slow(start, undisturbed, table, tmp_path):
    with small_disk(tmp_path, bytes_per_s=400_000) as disk:
        run = start(name="slow", runs=str(disk))
        run.end()
        off = difference(run, undisturbed)
        seconds = waited(run)
    assert off < SAME
    table(
        "the disk is slow: 0.4 MB/s", 0, None, off, f"training waits for writes between epochs, {seconds:.0f} s in all"
    )


def test_a_bucket_refuses_writes(seaweed, start, undisturbed, table):
    run = start()
    run.wait_for_checkpoint(1)
    seaweed.stop()
    seaweed.start(actions=("Read", "List"))
    try:
        text = run.end(code=1)
    finally:
        seaweed.stop()
        seaweed.start()
    last = text.strip().splitlines()[-1]
    assert re.search(r"^failed: s3://faces/runs/.*access is denied.*what was saved before is intact", last), text
    again = start("--run.resume")
    again.end()
    assert "cannot be used" not in again.text
    off = difference(again, undisturbed)
    assert off < SAME
    table("the bucket refuses writes", None, None, off, "one clear line, exit 1; resumed once it is fixed")


def test_a_disk_is_full(start, undisturbed, table, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        run = start(name="full", runs=str(disk))
        run.wait_for_checkpoint(0)
        with contextlib.suppress(OSError), (disk / "other").open("wb") as file:
            while True:
                file.write(b"0" * 2**16)
        last = run.end(code=1).strip().splitlines()[-1]
        assert re.search(rf"^failed: {disk}/full: .*No space left on device.*what was saved before is intact", last), (
            last
        )
        (disk / "other").unlink()
        again = start("--run.resume", name="full", runs=str(disk))
        again.end()
        off = difference(again, undisturbed)
        assert off < SAME
        table("the disk is full", None, None, off, "one clear line, exit 1; resumed when there is room")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)


@pytest.mark.parametrize("damage", ["half-written", "corrupted"])
def test_a_checkpoint_is_damaged(start, undisturbed, table, damage):
    run = start()
    run.wait_for_checkpoint(2)
    run.kill()
    names = run.checkpoints()
    last = f"{run.uri}/checkpoints/{names[-1]}"
    if damage == "half-written":
        storage.delete(f"{last}/progress.json")
    else:
        content = bytearray(storage.read(f"{last}/model.safetensors"))
        content[len(content) // 2] ^= 1
        storage.write(f"{last}/model.safetensors", bytes(content))
    again = start("--run.resume")
    text = again.end()
    assert f"checkpoint {names[-1]} cannot be used" in text
    off = difference(again, undisturbed)
    assert off < SAME
    before, after = (int(name.partition("-")[2] or 0) for name in names[-2:])
    steps = (after - before) / BATCH if after > before else None
    table(f"the last checkpoint is {damage}", steps, None, off, "it is named; the one before is used")
