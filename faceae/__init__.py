"""faceae: distributed training of face-reconstruction autoencoders on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load"]


def load(uri: str) -> nn.Module:
    """Loads a trained model, see `faceae.models.load`."""
    from faceae import models  # not above: Ray Data's workers need no torch, and its import takes 2 s

    return models.load(uri)
