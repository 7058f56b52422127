"""Writes metrics for TensorBoard: an event file in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceae import storage
from faceae.config import Settings
from faceae.run_folder import RunFolder
from faceae.training.progress import Record


class TensorBoard:
    """An event file in the run's folder, `tensorboard/events.out.tfevents.faceae`.

    TensorBoard's server keeps an event file open and reads on from where it stopped. So the file has the same name in
    all sessions of a run and only ever grows; in a bucket the whole file is written again with the new events appended.

    The methods import `faceae.tracking.events` only when they need it: through tensorboardX that imports torch, which
    takes seconds.
    """

    def __init__(self, folder: RunFolder[Settings]) -> None:
        self.uri = folder.path("tensorboard", "events.out.tfevents.faceae")
        self.settings = folder.settings
        self.content, self.logged = b"", set[int]()
        if storage.exists(self.uri):
            from faceae.tracking import events

            old = storage.read(self.uri)
            # Only the complete events are kept: a driver that was killed may have written half of its last one.
            for end, event in events.read(old):
                self.content = old[:end]
                self.logged.add(event.step)

    def sync(self, history: Sequence[Record]) -> None:
        """Adds the records that the file lacks."""
        missing = [record for record in history if record["epoch"] not in self.logged]
        if not missing:
            return
        from faceae.tracking import events

        head = b"" if self.content else events.head(self.settings, missing[0])
        new = head + b"".join(map(events.scalars, missing))
        if storage.is_remote(self.uri):
            storage.write(self.uri, self.content + new)
        else:
            path = Path(self.uri)
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                file.truncate(len(self.content))
                file.write(new)
        self.content += new
        self.logged |= {record["epoch"] for record in missing}

    def end(self, history: Sequence[Record], summary: Mapping[str, Any] | None, interrupted: bool) -> None:
        """Does nothing: the file is complete after every epoch."""
