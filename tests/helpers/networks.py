"""Networks that are small enough to be built in no time."""

import torch
from torch import nn

from faceae import models
from faceae.config import Data, Model, Optim, Settings
from faceae.training.state import TrainState


def tiny(name="article", size=32, source="synthetic:1500"):
    torch.manual_seed(0)
    settings = Settings(data=Data((source,), size), model=Model(name=name, latent_dim=8, window=32, width=8))
    return models.build(settings), settings


def stepped(seed):
    """The train state of a small layer after one step."""
    torch.manual_seed(seed)
    network = nn.Linear(3, 2)
    state = TrainState(network, Settings(optim=Optim(average=0.5)))
    state.step(network(torch.ones(1, 3)).sum(), progress=0)
    return state
