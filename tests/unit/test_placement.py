"""How many workers a run gets, by its settings and the cluster's resources. Only the arithmetic."""

from collections import Counter

import pytest

from faceae.cluster import placement
from faceae.config import Scale
from faceae.errors import InputError


@pytest.fixture
def cluster(monkeypatch):
    """Returns a function that sets what the cluster seems to have."""

    def cluster(cpus, gpus=0):
        monkeypatch.setattr(placement, "resources", lambda: Counter(CPU=cpus, GPU=gpus))

    return cluster


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "expected"),
    [(4, 0, "1:8", 2), (12, 0, "1:8", 8), (2, 0, "1:8", 1), (64, 4, "2:8", 4), (64, 16, "2:8", 8), (64, 1, "2:8", 2)],
)
def test_a_range_of_workers_uses_the_cluster_and_leaves_cpus_to_ray_data(cluster, cpus, gpus, workers, expected):
    cluster(cpus, gpus)
    arranged = placement.arrange(Scale(workers=workers))
    assert (arranged.workers, arranged.max_workers) == (expected, 8)
    assert arranged.gpu == (1 if gpus else 0)


@pytest.mark.parametrize(("gpus", "expected"), [(0, 1), (1, 1), (8, 8)])
def test_the_default_is_one_worker_per_gpu(cluster, gpus, expected):
    cluster(64, gpus)
    arranged = placement.arrange(Scale())
    assert (arranged.workers, arranged.max_workers) == (expected, expected)


@pytest.mark.parametrize(
    ("cpus", "gpus", "scale", "words"),
    [
        (8, 0, Scale(gpu="on"), "--scale.gpu on: there is no GPU"),
        (8, 2, Scale(workers=4), "--scale.workers 4: each worker needs a GPU and there are 2"),
        (64, 1, Scale(workers="2:8"), "--scale.workers 2: each worker needs a GPU and there are 1"),
        (2, 0, Scale(workers=2), "--scale.workers 2: each takes a CPU, Ray Data needs another"),
    ],
)
def test_more_than_the_cluster_has_is_refused_at_once(cluster, cpus, gpus, scale, words):
    cluster(cpus, gpus)
    with pytest.raises(InputError, match=words):
        placement.place(scale)


def test_gpus_that_an_autoscaler_can_start_are_waited_for(cluster, monkeypatch, tmp_path):
    """`ray up` leaves its configuration on the head node; without reading it, a run would train on a GPU node's CPU."""
    cluster(0)
    monkeypatch.setattr(placement, "is_local", lambda: False)
    monkeypatch.setattr(placement.ray_compat, "autoscaler_max_resources", dict)
    monkeypatch.setattr(placement, "BOOTSTRAP", tmp_path / "bootstrap.yaml")
    assert placement.arrange(Scale()).gpu == 0
    (tmp_path / "bootstrap.yaml").write_text("available_node_types: {head: {}, gpu: {resources: {CPU: 8, GPU: 1}}}")
    assert placement.arrange(Scale()).gpu == 1
    assert placement.arrange(Scale(gpu="off")).gpu == 0


def test_the_trials_of_a_grid_have_a_fixed_size(cluster):
    cluster(64, 8)
    with pytest.raises(InputError, match=r"--scale\.workers 2:8: the trials of a grid have a fixed number"):
        placement.place_trials(Scale(workers="2:8"), "auto", 6)
