"""What a run loses with its whole cluster, or when clocks jump. Part of `make faults`."""

import contextlib
import time
from collections.abc import Iterator

import pytest
from multinode import CPUS, SAME, difference, one_core, resume
from processes import kill_session
from rayhead import Head
from runs import ROOT

from faceae import storage

pytest_plugins = ["multinode"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@contextlib.contextmanager
def another_cluster() -> Iterator[Head]:
    """A head that trains nothing and a node, started with `ray start`; drivers started inside belong to it."""
    with Head() as head, pytest.MonkeyPatch.context() as patch:
        head.start_head()
        with one_core(0):
            head.start(f"--address=127.0.0.1:{head.gcs}", f"--num-cpus={CPUS}")
        head.wait_for(lambda: len(head.nodes("ALIVE")) == 2)
        for name in ("HOME", "RAY_AUTH_MODE"):
            patch.setenv(name, head.environment[name])
        yield head


def test_the_head_node_is_lost(start, undisturbed, table):
    with another_cluster() as head:
        run = start(address=f"127.0.0.1:{head.gcs}")
        run.wait_for_checkpoint(1)
        kill_session(head.started[0].pid)
        text = run.end(code=1)
        assert text.strip().splitlines()[-1] == (
            "failed: the coordinator was lost, perhaps with the cluster's head node; what was saved before is intact: "
            "continue with --run.resume"
        )
    with another_cluster() as head:
        again, seconds = resume(start, address=f"127.0.0.1:{head.gcs}")
        again.end()
    off = difference(again, undisturbed)
    assert off < SAME
    table("the head's node is lost", None, seconds, off, "one clear line, exit 1; resumed on another cluster")


def test_clocks_jump_by_a_day(start, undisturbed, table, tmp_path):
    """The clocks of all the run's processes, on all nodes, go forward by a day and then back by two."""
    shift, day = tmp_path / "shift", 24 * 60 * 60
    shift.write_text("0")
    run = start(
        runs=str(tmp_path),
        environment={"PYTHONPATH": f"{ROOT}/tests/helpers/jumping:{ROOT}", "CLOCK_SHIFT": str(shift)},
    )
    for days, epoch in ((1, 1), (-1, 3)):
        run.wait_for_checkpoint(epoch)
        shift.write_text(str(days * day))
    run.end()
    times = [record["time"] - time.time() for record in storage.read_lines(f"{run.uri}/metrics.jsonl")]
    assert max(times) > day - 3600
    assert min(times) < 3600 - day
    off = difference(run, undisturbed)
    assert off < SAME
    table("all clocks jump, a day forward and two back", 0, None, off, "nothing: only dates in records are wrong")
