"""The optimizer and the learning rate schedule of `--optim.*`."""

from __future__ import annotations

import math

import torch
from torch import nn

from faceae.config import Optim
from faceae.training.muon import Muon, Together


def build_optimizer(network: nn.Module, optim: Optim) -> torch.optim.Optimizer | Together:
    """Returns the optimizer of the settings, with Keras's defaults where torch's differ (the article uses Keras)."""
    parameters = network.parameters()
    if optim.name == "muon":
        matrices = [each for each in network.parameters() if each.ndim > 1]
        others = [each for each in network.parameters() if each.ndim <= 1]
        return Together(Muon(matrices, optim.lr), torch.optim.Adam(others, lr=optim.lr, fused=True))
    if optim.name == "adam":
        return torch.optim.Adam(parameters, lr=optim.lr, fused=True)
    if optim.name == "sgd":
        return torch.optim.SGD(parameters, lr=optim.lr, fused=True)
    return torch.optim.RMSprop(parameters, lr=optim.lr, alpha=0.9, eps=1e-7, foreach=True)


def lr_factor(optim: Optim, progress: float) -> float:
    """Returns the learning rate as a multiple of `--optim.lr`, at a given share of the run in [0, 1]."""
    warmup = min(1.0, progress / optim.warmup) if optim.warmup else 1.0
    return warmup * (0.5 * (1 + math.cos(math.pi * min(1.0, progress))) if optim.schedule == "cosine" else 1.0)
