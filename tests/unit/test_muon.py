"""The optimizer Muon, held against torch's own, which knows matrices only."""

import copy

import pytest
import torch
from torch import nn

from faceae.config import Optim, Settings
from faceae.training.muon import Muon, orthogonal
from faceae.training.state import TrainState


@pytest.mark.parametrize("shape", [(3, 20, 50), (3, 50, 20)])
def test_all_singular_values_become_about_one(shape):
    torch.manual_seed(0)
    made = orthogonal(torch.randn(shape) * torch.tensor([1e-3, 1, 1e3])[:, None, None])
    assert made.shape == shape
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6
    assert values.max() < 1.25


def test_matrices_move_as_with_torchs_own():
    """It computes in bfloat16, hence the tolerance."""
    torch.manual_seed(0)
    ours, theirs = (
        [nn.Parameter(torch.zeros(16, 40)) for _ in range(2)],
        [nn.Parameter(torch.zeros(16, 40)) for _ in range(2)],
    )
    mine = Muon(ours, lr=0.1)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(16, 40)
            other.grad = one.grad.clone()
        mine.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() / other.norm() < 0.03


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.ConvTranspose2d(8, 3, 2, stride=2))


def test_convolutions_move_alike_in_both_memory_formats():
    moved = []
    images = torch.rand(2, 3, 8, 8)
    for memory in (torch.contiguous_format, torch.channels_last):
        network = convolutions().to(memory_format=memory)
        state = TrainState(network, Settings(optim=Optim(name="muon", lr=0.01)))
        state.step(network(images.contiguous(memory_format=memory)).square().mean(), progress=0)
        moved.append(torch.cat([each.flatten() for each in network.parameters()]))
    assert torch.allclose(*moved, atol=1e-5)
    start = torch.cat([each.flatten() for each in convolutions().parameters()])
    assert (moved[0] - start).abs().max() > 1e-3


def test_a_state_continues_as_if_nothing_had_been():
    images, network = torch.rand(2, 3, 8, 8), convolutions()
    state = TrainState(network, Settings(optim=Optim(name="muon", lr=0.01, schedule="cosine")))

    def train(one, steps):
        for step in steps:
            one.step(one.network(images).square().mean(), progress=step / 4)
        return [each.detach() for each in one.network.parameters()]

    train(state, range(2))
    resumed = TrainState(copy.deepcopy(network), Settings(optim=state.optim))
    resumed.load_state_dict(copy.deepcopy(state.state_dict()))
    for one, other in zip(train(state, range(2, 4)), train(resumed, range(2, 4)), strict=True):
        assert torch.equal(one, other)
