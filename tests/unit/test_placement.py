"""How many workers a run gets, by its settings and the cluster's resources. The arithmetic, and once Ray's own."""

import subprocess
import sys
from collections import Counter

import pytest

from faceae.cluster import placement
from faceae.config import Data, Model, Scale, Settings, Train
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


@pytest.mark.parametrize(
    ("cpus", "gpus", "trials", "sharing", "expected"),
    [
        (16, 1, 6, 6, (6, 0.16)),  # the article's grid on one GPU
        (64, 2, 20, 6, (12, 0.16)),
        (64, 8, 6, 6, (6, 1.0)),  # a GPU for each
        (64, 4, 6, 6, (6, 0.5)),  # evenly, not six on the first
        (5, 1, 6, 6, (3, 0.33)),  # each needs a CPU, and Ray Data two
        (3, 1, 6, 6, (1, 1.0)),
        (64, 1, 20, 1, (1, 1.0)),  # large trials
        (64, 1, 20, 3, (3, 0.33)),
        (64, 0, 20, 6, (20, 0.0)),
    ],
)
def test_small_trials_share_gpus_by_themselves(cluster, cpus, gpus, trials, sharing, expected):
    cluster(cpus, gpus)
    placed = placement.place_trials(Scale(), "auto", trials, sharing)
    assert (placed.concurrent, placed.gpu) == expected


@pytest.mark.parametrize(
    ("scale", "concurrent", "expected"),
    [
        (Scale(gpus_per_worker=1.0), "auto", (2, 1.0)),
        (Scale(gpus_per_worker=0.4), "auto", (4, 0.4)),  # two on each GPU, although 2 / 0.4 is 5
        (Scale(), 2, (2, 1.0)),
        (Scale(workers=2), "auto", (1, 1.0)),  # NCCL cannot have two ranks on one GPU
        (Scale(gpu="off"), "auto", (20, 0.0)),
    ],
)
def test_what_the_settings_say_is_not_shared(cluster, scale, concurrent, expected):
    cluster(64, 2)
    placed = placement.place_trials(scale, concurrent, 20, 6)
    assert (placed.concurrent, placed.gpu) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), 6),
        (Settings(train=Train(batch_size=32)), 6),
        (Settings(train=Train(batch_size=128)), 3),
        (Settings(data=Data(image_size=256)), 1),
        (Settings(data=Data(image_size=1024)), 1),
        (Settings(model=Model(name="unet")), 6),
        (Settings(model=Model(name="unet", width=64)), 3),
        (Settings(model=Model(name="unet", window=128)), 1),
    ],
)
def test_trials_share_a_gpu_by_the_size_of_their_steps(settings, expected):
    assert placement.trials_sharing_a_gpu([Settings(train=Train(batch_size=8)), settings]) == expected


SHARED = """
import ray
from ray.util import placement_group
from faceae.cluster import placement
from faceae.config import Scale

ray.init(address="local", num_cpus=16, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
placed = placement.place_trials(Scale(), "auto", 20, 6)
assert placed.concurrent == 12
groups = [placement_group([placed.bundle]) for _ in range(placed.concurrent)]
assert all(group.wait(60) for group in groups), "no room"

assert not placement_group([placed.bundle]).wait(2), "a thirteenth trial has room"
"""


def test_ray_puts_six_small_trials_on_each_gpu():
    """Ray with two GPUs that do not exist, in a process of its own: it counts them all the same."""
    done = subprocess.run([sys.executable, "-c", SHARED], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
