"""The train state: the network, its optimizer and schedule, and the moving average of its weights (EMA)."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from faceae.config import Settings
from faceae.models.repair import RepairUnet
from faceae.models.vae import VariationalAutoencoder
from faceae.training.adversary import Adversary
from faceae.training.collectives import average, rank
from faceae.training.losses import LOSSES, suspicion_loss
from faceae.training.optim import build_optimizer, lr_factor
from faceae.training.transfer import DeviceBatch


class Snapshot(NamedTuple):
    """A train state at some moment.

    Attributes:
        network: the network.
        best_network: the network to save as the model, see `TrainState.best_network`.
        state: what `TrainState.state_dict` returned.
    """

    network: nn.Module
    best_network: nn.Module
    state: dict[str, Any]


class TrainState:
    """A network in training.

    Attributes:
        network: the network on its device, without a DDP wrapper.
        loss: one of `faceae.training.losses.LOSSES`.
        steps: optimizer steps so far.
        ema: the moving average of the network, or None without `--optim.average`.
        adversary: what the network is to deceive at the end of its training, or None without `--train.sharpen`.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        self.network, self.optim, self.sharpen = network, settings.optim, settings.train.sharpen
        self.train = settings.train
        self.loss = LOSSES[settings.train.loss]
        self.optimizer = build_optimizer(network, settings.optim)
        self.steps = 0
        # Batch norm's statistics, averaged over ranks after every step: then neither the moment of a checkpoint nor a
        # resume changes them, not even in their last digits, of which validation in bfloat16 makes differences of 1e-5.
        # On GPUs SyncBatchNorm already has the same on all ranks.
        self._statistics = [each for each in network.buffers() if each.is_floating_point() and not each.is_cuda]
        self.adversary: Adversary | None = None
        if self.sharpen:
            window = min(settings.model.window, settings.data.image_size)
            self.adversary = Adversary(window, next(network.parameters()).device)
        self.ema: nn.Module | None = None
        if settings.optim.average:
            self.ema = copy.deepcopy(network).eval().requires_grad_(False)
            # Listed once, and not by torch's AveragedModel: that walks both networks in every step and copies its count
            # of steps to the device, for which the host waits until the device has nothing left to do.
            self._averages, self._weights = _floats(self.ema), _floats(network)

    @property
    def best_network(self) -> nn.Module:
        """The network to validate and to save: the EMA if there is one."""
        return self.network if self.ema is None else self.ema

    def reseed(self) -> None:
        """Seeds what a network draws in the next step on this rank: a resumed run draws the same."""
        if isinstance(self.network, VariationalAutoencoder):
            torch.manual_seed(((self.train.seed * 1_000_003 + self.steps) * 65_537 + rank()) % 2**63)

    def objective(
        self, made: Tensor | tuple[Tensor, Tensor], data: DeviceBatch, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Returns the network's output, (N, 3, S, S), and what it is to reduce, the mean over the batch.

        Args:
            made: what the network returned, see `faceae.models`.
            data: what the network was given, and what is asked for.
            progress: share of the run that is over, in [0, 1].
        """
        output, more = made if isinstance(made, tuple) else (made, None)
        loss = self.loss(output, data.original, data.mask)
        if more is None:
            return output, loss
        if isinstance(self.network, RepairUnet):
            return output, loss + suspicion_loss(more, data.given, data.original)
        risen = min(1.0, progress / self.train.kl_warmup) if self.train.kl_warmup else 1.0
        return output, loss + self.train.kl * risen * more.mean() / data.original[0].numel()

    def opponent(self, progress: float) -> Adversary | None:
        """Returns the adversary if it trains at this share of the run, in [0, 1]: at its end."""
        return self.adversary if progress >= 1 - self.sharpen else None

    def step(self, loss: Tensor, progress: float) -> None:
        """Takes one optimizer step.

        Args:
            loss: scalar to differentiate; under DDP its gradients are averaged over ranks.
            progress: share of the run that is over, in [0, 1]; sets the learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.optim.lr * lr_factor(self.optim, progress)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        average(self._statistics)
        if self.ema is not None:
            self._average()

    @torch.no_grad()
    def _average(self) -> None:
        """Updates the power function EMA of Karras et al. (arxiv.org/abs/2312.02696); its length grows with the run."""
        torch._foreach_lerp_(self._averages, self._weights, 1 - (1 - 1 / self.steps) ** (1 / self.optim.average))

    def snapshot(self) -> Snapshot:
        """Returns a copy of what a checkpoint and a saved model hold, which further steps do not change."""
        network = copy.deepcopy(self.network)
        best = network if self.ema is None else copy.deepcopy(self.best_network)
        return Snapshot(network, best, copy.deepcopy(self.state_dict()))

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint holds besides the network's weights: tensors, numbers and containers of them."""
        ema = None if self.ema is None else self.ema.state_dict()
        adversary = None if self.adversary is None else self.adversary.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "steps": self.steps, "ema": ema, "adversary": adversary}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            KeyError: another version of faceae wrote the state.
        """
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        if self.ema is not None:
            self.ema.load_state_dict({name: state["ema"][name] for name in self.ema.state_dict()})
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])


def _floats(network: nn.Module) -> list[Tensor]:
    """Returns the parameters and buffers to average, but not the integers in which batch norm counts its batches."""
    return [each for each in chain(network.parameters(), network.buffers()) if each.is_floating_point()]
