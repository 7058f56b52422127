"""TensorBoard: an event file in the run's folder."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams

from faceae import storage
from faceae.checkpoint import Record
from faceae.config import Settings
from faceae.run import RunFolder
from faceae.track import fields


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
            old = storage.read(self.uri)
            for end, event in _events(old):  # a driver that was killed may have left half an event behind the last one
                self.content = old[:end]
                self.logged.add(event.step)

    def catch_up(self, history: Sequence[Record]) -> None:
        """Adds the records that the file lacks."""
        missing = [record for record in history if record["epoch"] not in self.logged]
        if not missing:
            return
        head = b"" if self.content else self._head(missing[0])
        new = head + b"".join(_frame(_scalars(record)) for record in missing)
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

    def _head(self, record: Record) -> bytes:
        """What an event file begins with, and the settings, for the HPARAMS tab."""
        now = fields.ended_at(record)
        version = Event(wall_time=now, file_version="brain.Event:2")
        experiment, start, _ = hparams(fields.parameters(self.settings), dict.fromkeys(fields.numbers(record)))
        return b"".join(
            _frame(event)
            for event in (
                version,
                *(Event(wall_time=now, summary=each) for each in (experiment, start)),
            )
        )


def _scalars(record: Record) -> Event:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in fields.numbers(record).items()]
    return Event(wall_time=fields.ended_at(record), step=record["epoch"], summary=Summary(value=values))


def _frame(event: Event) -> bytes:
    """An event as it stands in a file: length, checksum, content, checksum."""
    data = event.SerializeToString()
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc32c(size)) + data + struct.pack("<I", masked_crc32c(data))


def _events(content: bytes) -> Iterator[tuple[int, Event]]:
    """The complete events of a file, each with the offset of its end."""
    start = 0
    while start + 8 <= len(content):
        end = start + 16 + struct.unpack_from("<Q", content, start)[0]
        if end > len(content):
            return
        yield end, Event.FromString(content[start + 12 : end - 4])
        start = end
