"""At most one process works on a run, on a disk and in a bucket, and a dead one does not keep others out."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from runs import ROOT, small

from faceae import claim, storage
from faceae.errors import InputError, RunFailedError
from faceae.owner import Owner
from faceae.run_folder import RunFolder
from faceae.storage import conditional

STARTS = 10


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    """A place for runs, and its own name."""
    if request.param == "disk":
        return str(tmp_path / "runs")
    request.getfixturevalue("s3")
    return f"s3://faces/claims/{tmp_path.name}"


@pytest.fixture
def quick(monkeypatch):
    """Beats and waits that suit a test."""
    monkeypatch.setattr(claim, "BEAT_S", 0.05)
    monkeypatch.setattr(claim, "SILENT_S", 0.6)
    monkeypatch.setattr(claim, "LOOK_S", 0.05)


@pytest.mark.parametrize("resume", [False, True])
def test_one_of_ten_starts_of_a_name_begins(place, resume):
    if resume:
        with RunFolder(small("faces", place, "x")).claim():
            pass
    gate, over = threading.Barrier(STARTS), threading.Event()
    left = threading.Semaphore(0)

    def start(_):
        folder = RunFolder(small("faces", place, "x", run__resume=resume))
        gate.wait()
        try:
            with folder.claim() as resumed:
                left.release()
                over.wait(20)
                return resumed
        except InputError as error:
            left.release()
            return str(error)

    with ThreadPoolExecutor(STARTS) as threads:
        starts = [threads.submit(start, number) for number in range(STARTS)]
        for _ in range(STARTS):
            assert left.acquire(timeout=20)
        over.set()
    results = [each.result() for each in starts]
    assert results.count(resume) == 1
    host = f"{os.uname().nodename} (pid {os.getpid()})"
    refused = f"--run.name x: {host} is working on it; wait for its end, or stop it first"
    # On a disk a start may see the claim before its owner has written its name into it.
    assert {each for each in results if each is not resume} <= {refused, refused.replace(host, "another process")}
    assert claim.FILE not in storage.list_files(f"{place}/x")


def owner(**changes):
    """Another process's claim."""
    return replace(Owner("other", "far", 17, "another machine", "5"), **changes)


def hold(place):
    return claim.take(f"{place}/x", "--run.name x")


def test_a_silent_claim_in_a_bucket_is_taken_over_after_a_while(s3, tmp_path, quick, capsys):
    place = f"s3://faces/claims/{tmp_path.name}"
    storage.write(f"{place}/x/{claim.FILE}", owner().content())
    began = time.monotonic()
    with hold(place) as held:
        assert time.monotonic() - began > claim.SILENT_S
        held.claim.check()
    said = capsys.readouterr().out
    assert "waiting " in said
    assert "is gone" in said
    assert "does far (pid 17) still work here" in said.replace("\n", " ")


@pytest.mark.parametrize("content", [b"junk", b"[]"])
def test_a_file_of_another_program_with_the_claims_name_is_refused_and_stays(place, content):
    storage.write(f"{place}/x/{claim.FILE}", content)
    with pytest.raises(InputError, match=r"--run\.name x: .*claim\.json was not written by faceae"):
        hold(place)
    assert storage.read(f"{place}/x/{claim.FILE}") == content


def test_a_claim_that_shows_life_is_respected(s3, tmp_path, quick):
    place = f"s3://faces/claims/{tmp_path.name}"
    uri = f"{place}/x/{claim.FILE}"
    storage.write(uri, owner().content())
    later = threading.Timer(0.3, lambda: storage.write(uri, owner(beat=1).content()))
    later.start()
    with pytest.raises(InputError, match=r"--run\.name x: far \(pid 17\) is working on it"):
        hold(place)
    later.join()


def test_the_owner_of_a_claim_in_a_bucket_shows_life_for_longer_than_others_wait(s3, tmp_path, quick, monkeypatch):
    place = f"s3://faces/claims/{tmp_path.name}"
    with hold(place):
        monkeypatch.setattr(Owner, "alive", lambda _: None)  # as on another machine
        time.sleep(2 * claim.SILENT_S)
        with pytest.raises(InputError, match="is working on it"):
            hold(place)


HOLDER = """
import sys, time
from faceae import claim
with claim.take(sys.argv[1], "--run.name x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_claim_of_a_killed_process_of_this_machine_is_taken_over_at_once(place, capsys):
    other = subprocess.Popen([sys.executable, "-c", HOLDER, f"{place}/x"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=rf"\(pid {other.pid}\) is working on it"):
        hold(place)
    other.send_signal(signal.SIGKILL)
    other.wait()
    began = time.monotonic()
    with hold(place):
        assert time.monotonic() - began < 2
    assert f"(pid {other.pid}) that worked on it is gone" in capsys.readouterr().out.replace("\n", " ")


def test_the_number_of_a_dead_process_may_belong_to_another_by_now(s3, tmp_path):
    place = f"s3://faces/claims/{tmp_path.name}"
    storage.write(f"{place}/x/{claim.FILE}", replace(Owner.here(), id="other", start="1").content())
    with hold(place):
        pass


def test_an_owner_that_lost_its_claim_ends_with_an_error_and_its_workers_write_nothing(s3, tmp_path, quick):
    place = f"s3://faces/claims/{tmp_path.name}"
    uri = f"{place}/x/{claim.FILE}"

    def work():
        with hold(place) as held:
            held.claim.check()
            storage.write(uri, owner().content())  # as after this process was suspended
            with pytest.raises(RunFailedError, match="has taken over"):
                held.claim.check()
            time.sleep(20)  # is interrupted

    with pytest.raises(RunFailedError, match=r"/x: far \(pid 17\) has taken over; this one writes nothing more"):
        work()
    assert json.loads(storage.read(uri))["id"] == "other"


def test_a_claim_is_given_back_after_errors_and_ctrl_c(place):
    for error in (KeyboardInterrupt(), RunFailedError("it failed"), ZeroDivisionError()):
        with pytest.raises(type(error)), hold(place):
            raise error
    assert storage.list_files(f"{place}/x", missing_ok=True) == []


def test_a_disk_without_locks_is_treated_as_a_store_without_conditions(tmp_path, monkeypatch):
    monkeypatch.setattr(conditional, "SETTLE_S", 0.01)

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(claim.fcntl, "flock", refuse)
    with hold(tmp_path) as held:
        held.claim.check()
        with pytest.raises(InputError, match="is working on it"):
            hold(tmp_path)
    assert list((tmp_path / "x").iterdir()) == []


@pytest.mark.parametrize("tells", ["nothing", "tags only"])
def test_without_conditions_of_the_store_one_of_several_writers_wins(s3, tmp_path, monkeypatch, tells):
    """As in stores that pyarrow reaches and obstore does not, and on servers that refuse conditional writes."""
    if tells == "nothing":
        monkeypatch.setattr(conditional.stores, "s3_object", lambda uri: None)
    else:
        monkeypatch.setattr(conditional.obstore, "put", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(conditional, "SETTLE_S", 0.3)
    uri = f"s3://faces/claims/{tmp_path.name}"
    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(lambda number: conditional.write(uri, b"%d" % number, None), range(4)))
    assert sum(map(bool, won)) == 1
    before = conditional.read(uri)
    assert before.content == next(filter(None, won)).content
    assert conditional.write(uri, b"next", before)
    assert conditional.write(uri, b"late", before) is None
    assert conditional.read(uri).content == b"next"
