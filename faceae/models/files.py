"""A model on disk or in a bucket: model.safetensors (weights) and config.json (the settings that built it)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from pyarrow import ArrowException
from torch import Tensor, nn

from faceae import config, storage
from faceae.config import Settings
from faceae.errors import InputError, one_line
from faceae.models.article import ArticleAutoencoder
from faceae.models.frame import FrameUnet
from faceae.models.repair import RepairUnet
from faceae.models.restorer import Restorer
from faceae.models.unet import WindowUnet
from faceae.models.vae import VariationalAutoencoder

WEIGHTS = "model.safetensors"
CONFIG = "config.json"

_HEADER = 1024  # bytes that the header of a file of weights may take for each; safetensors writes about 100


def build(settings: Settings) -> nn.Module:
    """Returns a new network with random weights, drawn from torch's global generator."""
    model, image_size = settings.model, settings.data.image_size
    averaged = not settings.train.sharpen
    if model.name == "vae":
        return VariationalAutoencoder(image_size, model.latent_dim)
    if model.name == "article":
        return ArticleAutoencoder(image_size, model.latent_dim)
    if settings.task == ("inpaint",):
        return WindowUnet(
            min(model.window, image_size),
            model.width,
            model.latent_dim,
            model.levels,
            model.blocks,
            from_membrane=model.start == "membrane",
            average_mirrored=averaged,
        )
    if "repair" in settings.task:
        return RepairUnet(model.width, model.levels, model.blocks, average_mirrored=averaged)
    return FrameUnet(
        model.width,
        model.levels,
        model.blocks,
        sees_holes="inpaint" in settings.task,
        keeps_luminance="colorize" in settings.task,
        average_mirrored=averaged,
    )


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
        InputError: there is no model, it is damaged, or its weights are not finite.
    """
    settings = _read_settings(uri)
    network = _outline(uri, settings)
    saved = _read_weights(uri, network.state_dict())
    network.load_state_dict(saved, assign=True)
    return Restorer(network, settings).eval()


def _read_settings(uri: str) -> Settings:
    """Returns the settings that a saved model was trained with."""
    storage.info(uri)  # is not retried, so that a wrong endpoint is reported at once
    try:
        saved = storage.read_json(storage.join(uri, CONFIG))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{uri}: {_absence(uri)}") from None
    except (OSError, ArrowException) as error:
        raise storage.explain(error, uri) from None
    except ValueError as error:
        raise InputError(f"{uri}: {CONFIG} is damaged: {one_line(error)}") from None
    try:
        return config.from_dict(saved["settings"], Settings)
    except (KeyError, TypeError):  # not what `save` writes, such as the settings in a run's folder
        raise InputError(f"{uri}: {_absence(uri)}") from None
    except InputError as error:
        raise InputError(f"{uri}: {CONFIG} is damaged, or another version of faceae wrote it ({error})") from None


def _read_weights(uri: str, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the saved weights of a network; `expected` are its own, of which only names, shapes and types count."""
    file = storage.join(uri, WEIGHTS)
    too_large = (storage.info(file).size or 0) > sum(value.nbytes + _HEADER for value in expected.values())
    try:
        content = b"" if too_large else storage.read(file)
    except (OSError, ArrowException) as error:
        raise storage.explain(error, file) from None
    try:
        if too_large:
            raise ValueError("it is larger than these weights can be")
        saved = safetensors.torch.load(content)
        _check(saved, expected)
    except Exception as error:  # safetensors raises many kinds (SafetensorError, KeyError, RuntimeError, ...)
        raise InputError(f"{uri}: {WEIGHTS} does not hold the network of {CONFIG}: {one_line(error)}") from None
    return saved


def _absence(uri: str) -> str:
    """Says why a place is not a model's folder, and what to do."""
    if storage.exists(storage.join(uri, "model", CONFIG)):
        return f"this is a run's folder; name the model in it, {storage.join(uri, 'model')}"
    if not storage.exists(uri):
        return "it does not exist; check the path"
    return f"no model is there; the folder of one, such as <run>/model, has a {WEIGHTS} and a {CONFIG} of its settings"


def _outline(uri: str, settings: Settings) -> nn.Module:
    """Returns the network without memory for its weights: those that a damaged file asks for may fit nowhere."""
    try:
        with torch.device("meta"):
            return build(settings)
    except (RuntimeError, TypeError):  # the number of weights does not fit in 64 bits
        raise InputError(f"{uri}: {CONFIG} describes a network that is too large to be built") from None


def _check(saved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError, with one line, unless weights have a network's names, shapes and types and are finite."""
    if other := sorted(saved.keys() ^ expected.keys()):
        here = "holds" if other[0] in saved else "lacks"
        raise ValueError(f"it {here} {other[0]}" + (f" (and {len(other) - 1} more names differ)" if other[1:] else ""))
    for name, value in expected.items():
        if (found := _form(saved[name])) != _form(value):
            raise ValueError(f"{name} is {found} instead of {_form(value)}")
        if not saved[name].isfinite().all():
            raise ValueError(f"{name} is NaN or infinite in places; its training diverged, or it was damaged")


def _form(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, value.shape)) or 'scalar'}"
