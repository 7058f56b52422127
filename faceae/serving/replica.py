"""One copy of a model in its own process: uploads are read in threads, and their pictures restored in batches."""

from __future__ import annotations

import asyncio

import torch
from ray import serve

from faceae.models import Restorer, SurroundingsModel
from faceae.serving import restoring
from faceae.serving.answers import Refused, Restored, Upload
from faceae.serving.restoring import Work

BATCH = 8
"""Pictures at a time; each has many windows, which the network sees in batches of its own."""
_WAIT_S = 0.01  # for more pictures to come


@serve.deployment(max_ongoing_requests=2 * BATCH, max_queued_requests=64, health_check_period_s=2)
class Replica:
    """A copy of the model."""

    def __init__(
        self, model: Restorer | SurroundingsModel, device: str, threads: int, whole: bool, megapixels: float
    ) -> None:
        torch.set_num_threads(threads)
        self.model, self.whole, self.megapixels = model.to(device), whole, megapixels

    async def restore(self, upload: Upload) -> Restored | Refused:
        """Restores a picture: returns it at its own size, and in its own format if that is one of ours."""
        try:
            work = await asyncio.to_thread(restoring.read, upload, whole=self.whole, megapixels=self.megapixels)
        except Refused as refused:
            return refused
        return await self._restored(work)

    async def holes(self, upload: Upload) -> Restored | Refused | None:
        """Returns a mask that is white where the picture's black boxes are; None if it certainly has none."""
        try:
            return await asyncio.to_thread(restoring.holes, upload.image, self.megapixels)
        except Refused as refused:
            return refused

    async def wait(self) -> None:
        """Returns once the model is there."""

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=_WAIT_S)
    async def _restored(self, works: list[Work]) -> list[Restored | Refused]:
        return await asyncio.to_thread(restoring.restore, self.model, works)
