"""Writes the files of a run in a thread, so that training does not wait for the storage."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from pyarrow import ArrowException

from faceae import storage
from faceae.errors import RESUMABLE, RunFailedError


class Writer:
    """Carries out writes one after another; after one that fails, none is tried any more.

    Attributes:
        refusal: why a write failed, and what to do; None if none has.
    """

    def __init__(self, uri: str) -> None:
        """Starts no thread before the first write.

        Args:
            uri: the run's folder, for error messages.
        """
        self.uri = uri
        # With OpenMP threads of its own, there would be more of them than cores, and libgomp then lets them all sleep
        # at the end of each operation instead of spin: training was a fifth slower from the first write on.
        self._thread = ThreadPoolExecutor(1, "writer", initializer=torch.set_num_threads, initargs=(1,))
        self._last: Future[None] | None = None
        self.refusal: str | None = None

    @property
    def idle(self) -> bool:
        """Whether all writes are done."""
        return self._last is None or self._last.done()

    def submit(self, write: Callable[[], None]) -> None:
        """Has something written; waits for the write before it, so that a slow storage does not fill the memory."""
        self.wait()
        self._last = self._thread.submit(self._run, write)

    def wait(self) -> None:
        """Waits until all writes are done."""
        if self._last:
            self._last.result()

    def _run(self, write: Callable[[], None]) -> None:
        if self.refusal:
            return
        try:
            write()
        except RunFailedError as error:
            self.refusal = str(error)
        except (OSError, ArrowException) as error:
            self.refusal = f"{storage.explain(error, self.uri)}; {RESUMABLE}"
