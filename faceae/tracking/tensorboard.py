"""TensorBoard: an event file in the run's folder."""

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

    TensorBoard's server keeps an event file open and reads on from where it was. So the file has one name for all
    sessions of a run and only ever grows; in a bucket, by being written anew with the old content in front.
    """

    def __init__(self, folder: RunFolder[Settings]) -> None:
        self.uri = folder.path("tensorboard", "events.out.tfevents.faceae")
        self.settings = folder.settings
        self.content, self.logged = b"", set[int]()
        if storage.exists(self.uri):
            from faceae.tracking import (
                events,  # as below: it imports torch, which takes seconds, by way of tensorboardX
            )

            old = storage.read(self.uri)
            for end, event in events.read(
                old
            ):  # a driver that was killed may have left half an event behind the last one
                self.content = old[:end]
                self.logged.add(event.step)

    def catch_up(self, history: Sequence[Record]) -> None:
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
        """Nothing: the file is complete after every epoch."""
