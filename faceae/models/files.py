"""A model on disk or in a bucket: model.safetensors (weights) and config.json (the settings that built it)."""

from __future__ import annotations

from typing import Any

import safetensors.torch
from pyarrow import ArrowException
from safetensors import SafetensorError
from torch import nn

from faceae import config, storage
from faceae.config import Settings
from faceae.errors import InputError
from faceae.models.article import ArticleAutoencoder
from faceae.models.restorer import Restorer
from faceae.models.unet import WindowUnet

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def build(settings: Settings) -> nn.Module:
    """Returns a new network with random weights, drawn from torch's global generator."""
    model, image_size = settings.model, settings.data.image_size
    if model.name == "unet":
        return WindowUnet(min(model.window, image_size), model.width, model.latent_dim, model.blocks)
    return ArticleAutoencoder(image_size, model.latent_dim)


def weights(network: nn.Module) -> bytes:
    """Returns the parameters and buffers of a network in the safetensors format."""
    return safetensors.torch.save({name: value.cpu().contiguous() for name, value in network.state_dict().items()})


def load_weights(network: nn.Module, content: bytes) -> None:
    """Loads saved parameters and buffers, as `weights` returns them, into a network of the same architecture.

    Raises:
        SafetensorError: the content is damaged.
        RuntimeError: the content belongs to another network.
    """
    network.load_state_dict(safetensors.torch.load(content))


def save(uri: str, network: nn.Module, settings: Settings, **facts: Any) -> None:  # noqa: ANN401
    """Saves a network to a folder or s3://bucket/path.

    Args:
        uri: the folder; the files of an earlier model there are replaced.
        network: the network, without a DDP wrapper.
        settings: the settings that built it.
        facts: other facts about the model (epoch, metrics), kept in config.json; `load` does not need them.
    """
    storage.write(storage.join(uri, WEIGHTS), weights(network))
    storage.write_json(storage.join(uri, CONFIG), {"settings": config.to_dict(settings), **facts})


def load(uri: str) -> Restorer:
    """Loads a saved model for use: on the CPU, in evaluation mode, with its settings as `.settings`.

    Args:
        uri: the model's folder, such as `<run>/model`, local or s3://bucket/path.

    Returns:
        The model. Call it with a batch of tensors as `model(given, mask)`, see `faceae.models`, or with one picture and
        its mask, see `Restorer.forward`.

    Raises:
        InputError: the model does not exist or is damaged.
    """
    try:
        saved = storage.read_json(storage.join(uri, CONFIG))["settings"]
        content = storage.read(storage.join(uri, WEIGHTS))
    except (OSError, ArrowException) as error:
        raise storage.explain(error, uri) from None
    except (ValueError, KeyError):
        raise InputError(f"{uri}: {CONFIG} is damaged") from None
    settings = config.from_dict(saved, Settings)
    network = build(settings)
    try:
        load_weights(network, content)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{uri}: {WEIGHTS} does not hold this model: {error}") from None
    return Restorer(network, settings).eval()
