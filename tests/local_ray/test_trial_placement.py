"""How many trials a real cluster runs at a time."""

import pytest

from faceae.cluster import placement
from faceae.config import Scale
from faceae.errors import InputError


@pytest.mark.parametrize(
    ("workers", "concurrent", "trials", "expected"),
    [(1, "auto", 6, 2), (1, "auto", 1, 1), (2, "auto", 6, 1), (3, "auto", 6, 1), (1, 1, 6, 1), (1, 2, 1, 1)],
)
def test_concurrent_trials_leave_a_cpu_to_ray_data(ray_cluster, workers, concurrent, trials, expected):
    """The tests' cluster has 4 logical CPUs."""
    assert placement.place_trials(Scale(workers=workers), concurrent, trials).concurrent == expected


@pytest.mark.parametrize(
    ("workers", "concurrent", "words"),
    [
        (4, "auto", r"--scale\.workers 4: each takes a CPU, Ray Data needs another, and the cluster has 4"),
        (1, 4, r"--tune\.concurrent 4: the cluster has room for 2 trials at a time.*4 CPUs, 0 GPUs"),
        (2, 2, r"--tune\.concurrent 2: the cluster has room for 1 trial at a time.*2 training workers on CPU"),
    ],
)
def test_trials_that_would_wait_forever_are_refused(ray_cluster, workers, concurrent, words):
    with pytest.raises(InputError, match=words):
        placement.place_trials(Scale(workers=workers), concurrent, 6)
