"""The critic of `--train.sharpen`, and training against it; without Ray."""

import copy

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from faceae import models
from faceae.config import Data, Mask, Model, Optim, Settings, Train, presets
from faceae.corruption import masks
from faceae.data.batch import Batch
from faceae.data.synthetic import portrait
from faceae.errors import InputError
from faceae.training import engine
from faceae.training.adversary import Adversary
from faceae.training.progress import Progress
from faceae.training.state import TrainState
from faceae.training.transfer import to_device

CPU = torch.device("cpu")
SIZE = 32
SETTINGS = Settings(
    data=Data(image_size=SIZE),
    model=Model(name="unet", latent_dim=8, window=32, width=8),
    optim=Optim(lr=0.002),
    train=Train(loss="hole", sharpen=0.5, best_by="last"),
)


def batches(count, rows=16, rank=0, world_size=1):
    made = []
    for number in range(count):
        ids = range(number * rows, (number + 1) * rows)
        pixels = np.stack([portrait(each, SIZE) for each in ids])
        drawn = masks.draw([str(each) for each in ids], Mask(size="6:12"), seed=0, epoch=1, image_size=SIZE)
        made.append(Batch(pixels[rank::world_size], masks.pack(drawn)[rank::world_size], rows))
    return made


class Shared(engine.EpochControl):
    """Says that so much of a run of this many images is over."""

    def __init__(self, images):
        self.images = images

    def progress(self, images):
        return images / self.images


def train(state, loader, control, network=None):
    return engine.train_one_epoch(network or state.network, loader, state, device=CPU, control=control)


def new_state(settings=SETTINGS):
    torch.manual_seed(0)
    return TrainState(models.build(settings), settings)


def blurred(data):
    """The originals, blurred: what the critic is to tell from the originals."""
    return nn.functional.avg_pool2d(data.original, 5, 1, 2, count_include_pad=False)


def test_both_windows_show_the_hole_and_differ_only_there():
    data = to_device(batches(1)[0], CPU)
    windows = Adversary(16, CPU).windows(blurred(data), data.original, data.mask)
    assert windows.real.shape == windows.fake.shape == (16, 4, 16, 16)
    hole = windows.real[:, 3:] + 0.5
    assert torch.equal(windows.real[:, 3:], windows.fake[:, 3:])
    assert (hole.amax((1, 2, 3)) > 0.9).all()
    assert ((windows.real == windows.fake) | (hole > 0)).all()


def test_the_critic_learns_to_tell_a_blurred_hole_from_the_original():
    torch.manual_seed(0)
    adversary = Adversary(SIZE, CPU)
    *seen, unseen = (to_device(batch, CPU) for batch in batches(5, 32))
    for data in seen * 12:
        adversary.step(adversary.windows(blurred(data), data.original, data.mask), 1.0, bf16=False)
    windows = adversary.windows(blurred(unseen), unseen.original, unseen.mask)
    with torch.inference_mode():
        (real, _), (fake, _) = (adversary.critic(window) for window in windows)
    assert (real > fake)[windows.real[:, 3:, 4::8, 4::8] > 0].float().mean() > 0.8


def test_the_network_is_told_to_move_towards_the_original_and_the_critic_is_left_as_it_is():
    torch.manual_seed(0)
    data = to_device(batches(1)[0], CPU)
    adversary = Adversary(SIZE, CPU)
    before = copy.deepcopy(adversary.state_dict())
    output = blurred(data).requires_grad_()
    adversary.loss(adversary.windows(output, data.original, data.mask), bf16=False).backward()
    assert (output.grad[(data.mask == 0).expand_as(output)] == 0).all()
    assert (output.grad != 0).any()
    assert all(each.grad is None for each in adversary.critic.parameters())
    assert before.keys() == adversary.state_dict().keys()
    for one, other in zip(before["critic"].values(), adversary.critic.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_it_begins_when_its_share_of_the_run_does():
    state = new_state()
    assert state.opponent(0.49) is None
    assert state.opponent(0.5) is state.adversary
    loader = batches(6)
    train(state, loader, Shared(6 * 16))
    assert state.adversary.steps == 3
    assert new_state(Settings()).opponent(1.0) is None


def test_a_run_that_continues_from_a_checkpoint_agrees_with_an_unbroken_one():
    loader = batches(8)
    whole, parts = new_state(), new_state()
    for each in (whole, parts):
        train(each, loader, Shared(8 * 16))
    continued = TrainState(models.build(SETTINGS), SETTINGS)
    continued.network.load_state_dict(copy.deepcopy(parts.network.state_dict()))
    continued.load_state_dict(copy.deepcopy(parts.state_dict()))
    for each in (whole, continued):
        train(each, loader, Shared(8 * 16))
    for one, other in zip(whole.network.parameters(), continued.network.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole.adversary.critic.parameters(), continued.adversary.critic.parameters(), strict=True):
        assert torch.equal(one, other)


def _train_rank(rank, world_size, path, out):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world_size)
    torch.set_num_threads(1)
    state = new_state()
    wrapped = nn.parallel.DistributedDataParallel(state.network)
    train(state, batches(6, 16, rank, world_size), Shared(6 * 16), wrapped)
    if rank == 0:
        torch.save([state.network.state_dict(), state.adversary.critic.state_dict()], out)
    dist.barrier()
    del wrapped  # it holds a reference to the process group, with which gloo was seen to abort at exit
    dist.destroy_process_group()


def test_several_ranks_equal_one(tmp_path):
    mp.spawn(_train_rank, (2, tmp_path / "rendezvous", tmp_path / "out.pt"), nprocs=2)
    network, critic = torch.load(tmp_path / "out.pt", weights_only=True)
    state = new_state()
    train(state, batches(6), Shared(6 * 16))
    for several, one in ((network, state.network), (critic, state.adversary.critic)):
        apart = torch.cat([(several[name] - value).abs().flatten() for name, value in one.state_dict().items()])
        # Each step moves a weight by up to 0.002; Adam makes much of rounding where the gradient is nearly zero.
        assert apart.mean() < 5e-4  # 0.0001 here, and 0.003 if the critics are not averaged


def test_only_the_last_epoch_can_be_the_best_of_a_run_that_sharpens():
    settings = presets.find("restore-sharp", Settings)
    settings.check()
    history = [{"epoch": epoch, "val": {"mse": error}} for epoch, error in ((1, 0.3), (2, 0.1), (3, 0.2))]
    assert Progress(history).best(settings.train.best_by)["epoch"] == 3
    assert Progress(history).best("mse")["epoch"] == 2
    with pytest.raises(InputError, match=r"use --train\.best-by last"):
        Settings(train=Train(sharpen=0.3)).check()
