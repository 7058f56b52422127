"""What is trained, and how a step changes it: the network, its optimizer, the schedule, the average of its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceae.config import Optim, Settings

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(output, original, mask) -> scalar mean over all images, see `faceae.training.engine.Views`."""

HOLE_FRAME = 0.1
"""Weight of the frame's error in the loss `hole`, whose weight is 1."""


def hole_loss(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """The mean squared error inside the holes, and a little of the frame's."""
    squared = (output - original).square()
    holes = (squared * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return holes.mean() + HOLE_FRAME * squared.mean()


LOSSES: dict[str, Loss] = {
    "mse": lambda output, original, mask: F.mse_loss(output, original),
    "bce": lambda output, original, mask: F.binary_cross_entropy(output, original),
    "l1": lambda output, original, mask: F.l1_loss(output, original),
    "hole": hole_loss,
}


class Learner:
    """A network in training.

    Attributes:
        network: on its device, without a DDP wrapper.
        loss_of: one of `LOSSES`.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        self.network, self.optim = network, settings.optim
        self.loss_of = LOSSES[settings.train.loss]
        self.optimizer = make_optimizer(network, settings.optim)
        self.steps = 0
        self.averaged = copy.deepcopy(network).eval().requires_grad_(False) if settings.optim.average else None
        # Once: these are the tensors themselves, which steps and checkpoints change in place.
        self._weights = _floats(network)
        self._averages = _floats(self.averaged) if self.averaged is not None else []

    @property
    def result(self) -> nn.Module:
        """The network to validate and to keep."""
        return self.network if self.averaged is None else self.averaged

    def step(self, loss: Tensor, done: float) -> None:
        """Changes the weights.

        Args:
            loss: whose gradients to follow; those of all ranks are averaged.
            done: share of the run that is over, in [0, 1].
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.optim.lr * rate(self.optim, done)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        if self.averaged is not None:
            # The power function average of Karras et al. (2024): its length grows with the run.
            weight = 1 - (1 - 1 / self.steps) ** (1 / self.optim.average)
            torch._foreach_lerp_(self._averages, self._weights, weight)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint has to hold beside the weights; tensors, numbers and containers of them."""
        averaged = None if self.averaged is None else self.averaged.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "steps": self.steps, "averaged": averaged}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes on what `state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])


def rate(optim: Optim, done: float) -> float:
    """The learning rate as a share of the settings', when a share of the run is over."""
    risen = min(1.0, done / optim.warmup) if optim.warmup else 1.0
    return risen * (0.5 * (1 + math.cos(math.pi * min(1.0, done))) if optim.schedule == "cosine" else 1.0)


def make_optimizer(network: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """The optimizer of the settings, with Keras' defaults where torch's differ (the article is in Keras)."""
    parameters = network.parameters()
    if optim.name == "adam":
        return torch.optim.Adam(parameters, lr=optim.lr, fused=True)
    if optim.name == "sgd":
        return torch.optim.SGD(parameters, lr=optim.lr, fused=True)
    return torch.optim.RMSprop(parameters, lr=optim.lr, alpha=0.9, eps=1e-7, foreach=True)


def _floats(network: nn.Module) -> list[Tensor]:
    return [value for value in network.state_dict().values() if value.is_floating_point()]
