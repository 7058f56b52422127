"""Training and evaluating a network: losses, pauses, and agreement between numbers of ranks."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from faceae import metrics, models
from faceae.config import Data, Mask, Model, Optim, Settings, Train
from faceae.corruption import masks
from faceae.data.batch import Batch
from faceae.data.synthetic import portrait
from faceae.training import engine, transfer
from faceae.training.losses import LOSSES
from faceae.training.progress import EpochResult
from faceae.training.state import TrainState
from faceae.training.transfer import to_device

CPU = torch.device("cpu")
SIZE = 32


class Plain(nn.Module):
    """A network without batch norm, so that the shares of a batch must add up exactly."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, given, mask):
        return self.net(torch.cat([given, mask], 1))


def batches(counts, rank=0, world_size=1):
    """One rank's share of global batches with these numbers of images."""
    made, start = [], 0
    for count in counts:
        ids = range(start, start + count)
        pixels = np.stack([portrait(i, SIZE) for i in ids])
        drawn = masks.draw([str(i) for i in ids], Mask(size=8), seed=0, epoch=1, image_size=SIZE)
        made.append(Batch(pixels[rank::world_size], masks.pack(drawn)[rank::world_size], count))
        start += count
    return made


def train(network, loader, optim=None, **options):
    return engine.train_one_epoch(network, loader, train_state(network, optim), device=CPU, **options)


def train_state(network, optim=None, loss="mse"):
    return TrainState(network, Settings(optim=optim or Optim(name="sgd", lr=0.5), train=Train(loss=loss)))


def test_the_hole_is_black_on_the_device_and_nothing_else_changes():
    (batch,) = batches([5])
    data = to_device(batch, CPU)
    hole = masks.unpack(batch.drawn, SIZE)
    assert (data.mask[:, 0].numpy().astype(bool) == hole).all()
    assert np.allclose(data.original.permute(0, 2, 3, 1).numpy() * 255, batch.pixels, atol=1e-4)
    assert (data.given.permute(0, 2, 3, 1).numpy()[hole] == 0).all()
    assert torch.equal(data.given * (1 - data.mask), data.original * (1 - data.mask))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop", "muon"])
def test_every_optimizer_and_loss_learns(name, loss):
    torch.manual_seed(0)
    network = models.build(Settings(data=Data(image_size=SIZE), model=Model(latent_dim=8)))
    state = train_state(network, Optim(name=name, lr=0.05 if name == "sgd" else 0.003), loss)
    loader = batches([16]) * 6
    results = [engine.train_one_epoch(network, loader, state, device=CPU) for _ in range(2)]
    assert results[1].loss < results[0].loss
    assert results[0].images == 96
    assert not results[0].pause


def test_the_loss_is_the_mean_over_images_not_over_batches():
    network = Plain()
    loader = batches([9, 2])
    with torch.no_grad():
        data = [to_device(batch, CPU) for batch in loader]
        errors = torch.cat([(network(v.given, v.mask) - v.original).square().mean((1, 2, 3)) for v in data])
    assert train(network, loader, Optim(name="sgd", lr=1e-12)).loss == pytest.approx(errors.mean().item(), rel=1e-5)


def _train_rank(rank, world_size, path, out):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world_size)
    torch.set_num_threads(1)
    network = Plain()
    wrapped = nn.parallel.DistributedDataParallel(network)
    result = train(wrapped, batches([8, 8, 5], rank, world_size))
    sums = engine.evaluate(network, batches([7, 4], rank, world_size), device=CPU)
    if rank == 0:
        torch.save({"state": network.state_dict(), "result": vars(result), "val": sums.means(), "n": sums.count}, out)
    dist.barrier()
    del wrapped  # it holds a reference to the process group, with which gloo was seen to abort at exit
    dist.destroy_process_group()


def test_uneven_shares_over_several_ranks_equal_one_rank(tmp_path):
    """Global batches of 8, 8 and 5 images on 3 ranks give the same weights, loss and metrics as on one."""
    mp.spawn(_train_rank, (3, tmp_path / "rendezvous", tmp_path / "out.pt"), nprocs=3)
    several = torch.load(tmp_path / "out.pt", weights_only=True)
    network = Plain()
    result = train(network, batches([8, 8, 5]))
    assert several["result"]["loss"] == pytest.approx(result.loss, rel=1e-5)
    assert several["result"]["images"] == result.images == 21
    for name, value in network.state_dict().items():
        assert torch.allclose(several["state"][name], value, atol=1e-6), name
    sums = engine.evaluate(network, batches([7, 4]), device=CPU)
    assert several["n"] == sums.count == 11
    assert several["val"] == pytest.approx(sums.means(), rel=1e-4)


class Control(engine.EpochControl):
    """Pauses for a given reason at every step, and records the steps."""

    def __init__(self, seen, reason=0):
        self.on_step = seen.append
        self.pause = lambda: reason


def test_a_diverging_loss_stops_within_the_check_interval():
    seen = []
    network = nn.ModuleDict({"net": Plain()})
    network.forward = lambda given, mask: network["net"](given, mask) / 0
    with pytest.raises(engine.NonFiniteLossError, match="no longer finite"):
        train(network, batches([4]) * 100, control=Control(seen))
    assert len(seen) <= engine.CHECK_STEPS["cpu"]


def test_an_epoch_with_pauses_gives_the_same_result_as_one_without():
    whole, parts = Plain(), Plain()
    state = train_state(parts)
    loader, result = iter(batches([8, 8, 8, 5])), EpochResult()
    seen = []
    for images, why in ((8, 3), (16, 2), (29, 0)):
        result = engine.train_one_epoch(
            *(parts, loader, state),
            device=CPU,
            so_far=result,
            control=Control(seen, why),
        )
        assert (result.images, result.pause) == (images, why)
    expected = train(whole, batches([8, 8, 8, 5]))
    assert seen == [8, 16, 24, 29]
    assert result.loss == pytest.approx(expected.loss, rel=1e-12)
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


def test_evaluation_does_not_change_the_network():
    network = models.build(Settings(data=Data(image_size=SIZE), model=Model(latent_dim=8)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    sums = engine.evaluate(network, batches([7]), device=CPU)
    assert set(sums.means()) == set(metrics.NAMES)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_images_stay_on_a_gpu_that_has_room_for_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10, 80 * 2**30))
    gpu = torch.device("cuda", 0)
    assert transfer.fit(3 * 2**30, gpu, share=1 / 6)  # FFHQ at 128x128, one of six trials on an H100
    assert not transfer.fit(3 * 2**30, gpu, share=1 / 7)
    assert not transfer.fit(1, CPU, share=1)
