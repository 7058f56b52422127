"""Networks that are small enough to be built in no time."""

import torch

from faceae import models
from faceae.config import Data, Model, Settings


def tiny(name="article", size=32):
    torch.manual_seed(0)
    settings = Settings(data=Data(image_size=size), model=Model(name=name, latent_dim=8, window=32, width=8))
    return models.build(settings), settings
