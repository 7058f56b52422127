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
    """A new network with random weights (from torch's global generator)."""
    model, image_size = settings.model, settings.data.image_size
    if model.name == "unet":
        return WindowUnet(min(model.window, image_size), model.width, model.latent_dim, model.blocks)
    return ArticleAutoencoder(image_size, model.latent_dim)


def weights(network: nn.Module) -> bytes:
    """The parameters and buffers of a network in safetensors' format."""
    return safetensors.torch.save({name: value.cpu().contiguous() for name, value in network.state_dict().items()})


def load_weights(network: nn.Module, content: bytes) -> None:
    """Puts saved parameters into a network of the same shape.

    Raises:
        SafetensorError: the content is damaged.
        RuntimeError: it belongs to another network.
    """
    network.load_state_dict(safetensors.torch.load(content))


def save(uri: str, network: nn.Module, settings: Settings, **facts: Any) -> None:  # noqa: ANN401
    """Saves a network to a folder or s3://bucket/path.

    Args:
        uri: the folder; files of an earlier model in it are replaced.
        network: the network, without a DDP wrapper.
        settings: the settings that built it.
        facts: what else is worth knowing of it (epoch, metrics); kept in config.json, not needed to load it.
    """
    storage.write(storage.join(uri, WEIGHTS), weights(network))
    storage.write_json(storage.join(uri, CONFIG), {"settings": config.to_dict(settings), **facts})


def load(uri: str) -> Restorer:
    """Loads a saved model for use: on the CPU, in evaluation mode, its settings as `.settings`.

    Args:
        uri: a model folder, such as `<run>/model`, local or s3://bucket/path.

    Returns:
        The network; call it as `network(given, mask)` with a batch of tensors, see `faceae.models`, or with one picture
        and its mask, see `Restorer.forward`.

    Raises:
        InputError: there is no model, or it is damaged.
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
