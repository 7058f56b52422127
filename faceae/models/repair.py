"""A U-Net for --task repair: it says what does not belong on an image, and draws what may have been there."""

from __future__ import annotations

import torch
from torch import Tensor

from faceae.models.frame import FrameUnet, whole


class RepairUnet(FrameUnet):
    """Changes the given image where it finds something wrong, and as much as it is sure of that."""

    _drawn = 4  # colours, and how sure it is, as a logit

    def forward(self, given: Tensor, mask: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        """Maps (N, 3, S, S) in [0, 1] to (N, 3, S, S) float32 in [0, 1]; ignores the mask.

        In training it also returns the logits of how likely each pixel is to be wrong, (N, 1, S, S).
        """
        if not self.training:
            return super().forward(given, mask)
        drawn = self._seen(given, mask, *whole(given))
        return _changed(given, drawn), drawn[:, 3:]

    @torch.inference_mode()
    def suspicion(self, given: Tensor) -> Tensor:
        """Returns how likely each pixel of images, (N, 3, S, S) in [0, 1], is to be wrong: (N, 1, S, S) in [0, 1]."""
        one, mirrored = (
            self._seen(each, torch.ones_like(each[:, :1]), *whole(each))[:, 3:].sigmoid()
            for each in (given, given.flip(3))
        )
        return (one + mirrored.flip(3)) / 2

    def _draw(self, given: Tensor, mask: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        return _changed(given, self._seen(given, mask, centre, scale))


def _changed(given: Tensor, drawn: Tensor) -> Tensor:
    return (given + drawn[:, 3:].sigmoid() * drawn[:, :3]).clamp(0, 1)
