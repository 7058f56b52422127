"""Restores pictures without any training, from what is near each hole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faceae.models.picture_model import PictureModel, copies
from faceae.models.thin import fill_thin
from faceae.models.windows import Hole, Pixels


class SurroundingsModel(PictureModel):
    """Fills all holes with the network that comes with faceae, which knows nothing of faces; see `local`."""

    _where: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_where", torch.empty(0), persistent=False)  # moves with `to`; the network is shared

    @torch.inference_mode()
    def restore(self, pictures: Sequence[Pixels], holes: Sequence[Hole]) -> list[Pixels]:
        """Restores several pictures, see `PictureModel.restore`."""
        restored = copies(pictures, holes)
        fill_thin(restored, holes, holes, self._where.device)
        return restored
