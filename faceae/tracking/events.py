"""Encodes and reads TensorBoard's event files."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams

from faceae.config import Settings
from faceae.tracking import fields
from faceae.training.progress import Record


def head(settings: Settings, record: Record) -> bytes:
    """Returns the first bytes of an event file: its version, and the settings for the HPARAMS tab.

    Args:
        settings: the run's settings.
        record: the first record of the file, which names the metrics and gives the time.
    """
    now = fields.ended_at(record)
    version = Event(wall_time=now, file_version="brain.Event:2")
    experiment, start, _ = hparams(fields.parameters(settings), dict.fromkeys(fields.numbers(record)))
    return b"".join(map(_frame, (version, *(Event(wall_time=now, summary=each) for each in (experiment, start)))))


def scalars(record: Record) -> bytes:
    """Returns an epoch's metrics as one encoded event."""
    values = [Summary.Value(tag=name, simple_value=value) for name, value in fields.numbers(record).items()]
    return _frame(Event(wall_time=fields.ended_at(record), step=record["epoch"], summary=Summary(value=values)))


def _frame(event: Event) -> bytes:
    """Returns an event as a file holds it: length, checksum, content, checksum."""
    data = event.SerializeToString()
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc32c(size)) + data + struct.pack("<I", masked_crc32c(data))


def read(content: bytes) -> Iterator[tuple[int, Event]]:
    """Yields the complete events of a file, each as (offset of its end in bytes, event)."""
    start = 0
    while start + 8 <= len(content):
        end = start + 16 + struct.unpack_from("<Q", content, start)[0]
        if end > len(content):
            return
        yield end, Event.FromString(content[start + 12 : end - 4])
        start = end
