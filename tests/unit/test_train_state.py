"""The learning rate's schedule, the average of the weights (EMA) and the losses."""

import pytest
import torch
from torch import nn

from faceae.config import Optim, Settings, Train
from faceae.training.losses import LOSSES
from faceae.training.optim import lr_factor
from faceae.training.state import TrainState


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    optim = Optim(schedule="cosine", warmup=0.1)
    assert lr_factor(optim, 0) == 0
    assert lr_factor(optim, 0.05) == pytest.approx(0.5, abs=0.01)
    assert lr_factor(optim, 0.5) == pytest.approx(0.5)
    assert lr_factor(optim, 1) == lr_factor(optim, 1.2) == 0
    assert lr_factor(Optim(), 0) == lr_factor(Optim(), 1) == 1


def test_the_optimizer_follows_the_schedule():
    network = nn.Linear(1, 1, bias=False)
    state = TrainState(network, Settings(optim=Optim(name="sgd", lr=0.5, schedule="cosine")))
    for progress, moved in ((0.0, 0.5), (0.5, 0.25), (1.0, 0.0)):
        before = network.weight.item()
        state.step(network.weight.sum(), progress)
        assert before - network.weight.item() == pytest.approx(moved)


def test_the_ema_covers_about_the_last_share_of_the_steps():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    state = TrainState(network, Settings(optim=Optim(name="sgd", lr=1, average=0.1)))
    for _ in range(1000):  # the weight falls by one per step
        state.step(network.weight.sum(), progress=0)
    assert state.best_network is state.ema
    # The mean age of a power function average with exponent 1 / share is n / (1 / share + 2).
    assert state.ema.weight.item() - network.weight.item() == pytest.approx(1000 / 11, rel=0.1)


def test_the_average_takes_the_weights_of_the_first_step_and_batch_norms_statistics():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = TrainState(network, Settings(optim=Optim(average=0.5)))
    state.step(network(torch.rand(4, 2)).square().sum(), progress=0)
    for one, other in zip(state.ema.parameters(), network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(state.ema[1].running_mean, network[1].running_mean)
    assert not state.ema.training


def test_the_average_of_an_earlier_version_is_refused():
    """It stood under `module.` (torch's AveragedModel); `checkpoint.load` says so in words."""
    state = TrainState(nn.Linear(1, 1), Settings(optim=Optim(average=0.5)))
    earlier = {f"module.{name}": value for name, value in state.state_dict()["ema"].items()}
    with pytest.raises(KeyError, match="weight"):
        state.load_state_dict({**state.state_dict(), "ema": earlier})


def test_without_an_ema_the_network_itself_is_the_result():
    network = nn.Linear(1, 1)
    assert TrainState(network, Settings()).best_network is network


def test_holes_of_any_size_have_the_same_weight_and_the_frame_a_little():
    original, output, mask = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
    mask[0, :, :2, :2] = 1
    mask[1, :, :4] = 1
    output[0, :, :2, :2] = 1  # wrong in all of the small hole
    loss = LOSSES["hole"](output, original, mask)
    assert loss.item() == pytest.approx(0.5 + 0.1 * 4 / 64 / 2)


def test_psnr_counts_decibels_where_images_are_asked_for():
    original, mask = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
    mask[:, :, :4] = 1
    errors = torch.tensor([1e-3, 1e-1])
    output = errors.sqrt()[:, None, None, None] * mask + (1 - mask)
    assert -LOSSES["psnr"](output, original, mask).item() == pytest.approx((30 + 10) / 2 - 40, abs=0.3)
    # An image whose error is a hundred times smaller has as much to gain, but one that is nearly right has little.
    output = errors.sqrt()[:, None, None, None].clone().requires_grad_()
    LOSSES["psnr"](output.expand_as(original), original, mask).backward()
    small, large = (output.grad.flatten() * output.detach().flatten()).tolist()
    assert small == pytest.approx(large, rel=0.1)
    nearly = torch.full_like(original, 1e-6, requires_grad=True)
    LOSSES["psnr"](nearly, original, mask).backward()
    assert nearly.grad.sum() * 1e-6 < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_smallest_for_the_original(name):
    original, mask = torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
    state = TrainState(nn.Linear(1, 1), Settings(train=Train(loss=name)))
    best = state.loss(original, original, mask)
    assert best < state.loss((original + 0.1).clamp(0, 1), original, mask)
