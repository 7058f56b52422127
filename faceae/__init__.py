"""faceae: distributed training of face-reconstruction autoencoders on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from faceae.models import Restorer

__all__ = ["export", "load"]


def load(uri: str) -> Restorer:
    """Loads a trained model, see `faceae.models.load`: called with a picture and its mask it restores that."""
    from faceae import models  # not above: Ray Data's workers need no torch, and its import takes 2 s

    return models.load(uri)


def export(uri: str, form: Literal["onnx"] = "onnx", destination: str | None = None) -> str:
    """Writes a trained model in a form that other programs run, see `faceae.models.export.export`."""
    from faceae.models.export import export

    return export(uri, form, destination)
