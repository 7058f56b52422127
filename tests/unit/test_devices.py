"""The placement decides on the device, whatever GPUs a process can see."""

import pytest
import torch
from torch import nn

from faceae.cluster import placement, replicas
from faceae.config import Mask, Settings
from faceae.config.jobs import ReplicaScale
from faceae.data.execution import Replicas
from faceae.data.sources import Entry
from faceae.evaluation import scoring
from faceae.evaluation.baselines import Comparison
from faceae.evaluation.holes import DrawnHoles
from faceae.tasks import Inpaint


@pytest.fixture
def cluster(monkeypatch):
    """A cluster with four GPUs, all of which every process sees, as in Ray since 2.60."""
    there = {"CPU": 16.0, "GPU": 4.0}
    for module in (placement, replicas):
        monkeypatch.setattr(module, "resources", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.parametrize(("gpu", "device"), [("off", "cpu"), ("auto", "cuda"), ("on", "cuda")])
def test_the_replicas_of_a_model_are_where_the_settings_say(cluster, gpu, device):
    assert replicas.plan_replicas(ReplicaScale(gpu=gpu)).device == device


def test_an_evaluation_without_gpus_runs_on_the_cpu_though_it_sees_one(cluster, monkeypatch):
    network = nn.Conv2d(3, 3, 1)
    network.settings = Settings()
    made = []
    monkeypatch.setattr(scoring, "execute", lambda source, parts, finish, pool: made.append(pool) or [])
    monkeypatch.setattr(scoring.ray, "put", lambda value: value)
    monkeypatch.setattr(scoring.ray, "get", lambda value: value)
    entries = [Entry("0", "synthetic:")]
    holes = DrawnHoles(Inpaint(Mask(), 32))
    what = scoring.Scoring(network, holes, Inpaint(Mask(), 32), 4, Comparison(None, frozenset()))
    list(scoring.score(entries, what, Replicas(1, 2, 0.0)))
    scorer = made[0].make(*made[0].arguments)
    assert scorer.device == torch.device("cpu")
    assert next(scorer.network.parameters()).device == torch.device("cpu")
