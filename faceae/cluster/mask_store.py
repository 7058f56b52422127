"""The coordinator's masks: training workers ask for those of an epoch, the driver's thread has them drawn."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence

from faceae.data.epoch import Drawn, EpochKey
from faceae.errors import RunFailedError


class MaskStore:
    """Masks of epochs, drawn on request and kept for the runs that need them later.

    Several epochs are drawn at a time, a burst. Whoever asks for the first of them orders the next burst, so that it is
    drawn while this one is trained.
    """

    def __init__(self) -> None:
        self._drawn: OrderedDict[EpochKey, Drawn] = OrderedDict()
        self._orders: dict[EpochKey, int] = {}  # those not filled yet, with the last epoch of the run that needs them
        self._awaited: Counter[EpochKey] = Counter()
        self._burst = 1
        self._failure: str | None = None
        self._changed = asyncio.Event()

    async def get(self, key: EpochKey, last: int, blocks: Sequence[int]) -> Drawn:
        """Waits for the masks of an epoch.

        Args:
            key: the epoch.
            last: number of the run's last epoch.
            blocks: numbers of the blocks whose masks are wanted.

        Raises:
            RunFailedError: they could not be drawn.
        """
        self._awaited[key] += 1
        try:
            while key not in self._drawn:
                if self._failure:
                    raise RunFailedError(self._failure)
                self._order(key, last)
                await self._changed.wait()
        finally:
            self._awaited[key] -= 1
        ahead = (key._replace(epoch=key.epoch + number) for number in range(1, self._burst + 1))
        missing = next((each for each in ahead if each not in self._drawn), None)
        if missing and missing.epoch <= last:
            self._order(missing, last)
        self._drawn.move_to_end(key)
        tables = self._drawn[key].tables
        return Drawn(key, {block: tables[block] for block in blocks})

    def _order(self, key: EpochKey, last: int) -> None:
        if key not in self._drawn and key not in self._orders:
            self._orders[key] = last
            self._notify()

    async def next_order(self) -> tuple[EpochKey, int] | None:
        """Waits for an order that is not filled yet.

        Returns:
            The epoch, and the last epoch of the run that needs it; None if no more masks are to be drawn.
        """
        while not self._failure:
            if self._orders:
                return next(iter(self._orders.items()))
            await self._changed.wait()
        return None

    async def put(self, drawn: Sequence[Drawn], capacity: int) -> None:
        """Adds epochs, and drops those not used for longest beyond `capacity`, unless somebody waits for them."""
        for each in drawn:
            self._drawn[each.key] = each
            self._orders.pop(each.key, None)
        self._burst = len(drawn)
        new = {each.key for each in drawn}
        for key in list(self._drawn)[: max(0, len(self._drawn) - capacity)]:
            if not self._awaited[key] and key not in new:
                del self._drawn[key]
        self._notify()

    async def fail(self, reason: str) -> None:
        """Records that no masks are drawn any more, and why."""
        self._failure = self._failure or reason
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
