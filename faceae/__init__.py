"""faceae: distributed training of face-restoration autoencoders on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from faceae.models import Restorer

__all__ = ["export", "load"]


def load(uri: str) -> Restorer:
    """Loads a trained model that restores pictures: `load(uri)(picture, mask)`; see `faceae.models.load`."""
    from faceae import models  # not at the top: Ray Data's workers do not need torch, and importing it takes 2 s

    return models.load(uri)


def export(uri: str, form: Literal["onnx"] = "onnx", destination: str | None = None) -> str:
    """Writes a trained model in a format that other programs can run; see `faceae.models.export.export`."""
    from faceae.models.export import export

    return export(uri, form, destination)
