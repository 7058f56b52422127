"""The variational autoencoder: its divergence, its loss, that runs agree, and how its latent space is drawn."""

import copy
import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from faceae import config, metrics, models, tasks
from faceae.config import Data, Model, Optim, Settings, Train
from faceae.data import synthetic
from faceae.data.batch import Batch
from faceae.reporting.latent_sheet import draw
from faceae.training import engine
from faceae.training.state import TrainState
from faceae.training.transfer import to_device

CPU = torch.device("cpu")
SIZE = 32


def settings(kl=0.01, warmup=0.0, name="vae"):
    return config.validate(
        Settings(
            task="reconstruct",
            data=Data(image_size=SIZE),
            model=Model(name=name, latent_dim=8),
            optim=Optim(lr=0.003),
            train=Train(batch_size=16, kl=kl, kl_warmup=warmup),
        )
    )


@functools.cache
def batch(number=0):
    pixels = np.stack([synthetic.portrait(16 * number + each, SIZE) for each in range(16)])
    task = tasks.create(settings())
    return Batch(pixels, np.zeros((16, 1), np.uint8), 16, damage=task.damage)


def trained(chosen, steps, state=None):
    if state is None:
        torch.manual_seed(0)
        state = TrainState(models.build(chosen), chosen)
    for number in range(steps):
        engine.train_one_epoch(state.network, [batch(number % 3)], state, device=CPU)
    return state


def test_the_divergence_is_that_of_the_normal_distributions():
    torch.manual_seed(0)
    network = models.build(settings())
    data = to_device(batch(), CPU)
    network.train()
    output, divergence = network(data.given, data.mask)
    assert output.shape == (16, 3, SIZE, SIZE)
    mean, log_variance = network.encoder(data.given).chunk(2, 1)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(divergence, expected, rtol=1e-4, atol=1e-4)


def test_in_use_it_returns_the_image_of_the_mean():
    network = models.build(settings()).eval()
    data = to_device(batch(), CPU)
    output = network(data.given, data.mask)
    assert torch.equal(output, network(data.given, data.mask))
    assert torch.equal(output, network.decode(network.encode(data.given, data.mask)))


def test_the_weight_of_the_divergence_rises_to_its_value():
    chosen = settings(kl=2.0, warmup=0.5)
    state = TrainState(models.build(chosen), chosen)
    data, divergence = to_device(batch(), CPU), torch.full((16,), 3.0)
    for progress, weight in ((0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)):
        output, loss = state.objective((data.original, divergence), data, progress)
        assert output is data.original
        assert loss.item() == pytest.approx(weight * 3 / (3 * SIZE**2))
    assert state.objective(data.original, data, 1.0)[1] == 0


def test_more_weight_gives_less_divergence_and_a_larger_error():
    means = []
    for kl in (1e-4, 1.0):
        state = trained(settings(kl=kl), 60)
        means.append(engine.evaluate(state.network, [batch()], device=CPU).means())
        assert set(means[-1]) == {*metrics.NAMES, metrics.DIVERGENCE}
    assert means[1][metrics.DIVERGENCE] < 0.4 * means[0][metrics.DIVERGENCE]
    assert means[1]["mse"] > means[0]["mse"]


def test_a_resumed_run_draws_what_an_unbroken_one_does():
    chosen = settings()
    whole = trained(chosen, 6)
    half = trained(chosen, 3)
    torch.rand(7)  # what is drawn in between must not matter
    again = TrainState(copy.deepcopy(half.network), chosen)
    again.load_state_dict(half.state_dict())
    for number in range(3, 6):
        engine.train_one_epoch(again.network, [batch(number % 3)], again, device=CPU)
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_any_seed_can_be_used():
    chosen = settings()
    largest = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, seed=2**63 - 1))
    trained(largest, 1)


def test_bits_of_a_perfect_and_of_a_useless_network():
    noise = 1 / math.sqrt(2 * math.pi * math.e)  # a normal distribution of this deviation has an entropy of 0
    assert metrics.bits_per_value(noise**2, 0.0, 1000) == pytest.approx(math.log2(255))
    assert metrics.bits_per_value(noise**2, 1000 * math.log(2), 1000) == pytest.approx(math.log2(255) + 1)
    assert metrics.bits_per_value(0.004, 100.0, 3 * 128**2) < 7


@pytest.mark.parametrize("name", ["vae", "article"])
def test_the_latent_space_is_drawn(name):
    network = trained(settings(name=name), 40).network.eval()
    image = draw(network, [batch(0), batch(1)])
    pixels = np.asarray(image)[:, -8 * SIZE :].reshape(4, SIZE, 8, SIZE, 3).transpose(0, 2, 1, 3, 4)
    data = to_device(batch(0), CPU)
    known = (255 * network(data.given, data.mask)).round().byte().permute(0, 2, 3, 1).detach().numpy()
    for column, number in ((0, 0), (-1, 1)):  # the ways begin and end at the two faces
        assert np.abs(pixels[2, column].astype(int) - known[number]).max() <= 1
        assert (pixels[3, column] == batch(0).pixels[number]).all()
    drawn = pixels[:2].reshape(16, -1).astype(float)
    assert len({row.tobytes() for row in drawn}) == 16
    faces = np.concatenate([batch(0).pixels, batch(1).pixels]).reshape(32, -1).astype(float)
    assert np.abs(drawn.mean(0) - faces.mean(0)).mean() < np.abs(faces - faces.mean(0)).mean()
