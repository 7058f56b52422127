"""What a run needs to go on as if it had never stopped.

A checkpoint is a folder of the run, `checkpoints/<epoch>/`, with progress.json written last: without it, the folder is
half-written and does not count.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from faceae import models, storage
from faceae.models import files

KEEP = 2
"""Checkpoints of a run that are kept, the last ones."""

OPTIMIZER, PROGRESS = "optimizer.pt", "progress.json"

Record = dict[str, Any]
"""A line of metrics.jsonl."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        history: the record of each finished epoch.
        seconds: spent on training and validation, of all sessions of the run.
    """

    history: list[Record] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """The last finished epoch; 0 before the first."""
        return self.history[-1]["epoch"] if self.history else 0

    def best(self, metric: str) -> Record:
        """The epoch with the lowest validation metric, the first of equals."""
        return min(self.history, key=lambda record: record["val"][metric])


def save(run_uri: str, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes a checkpoint, and deletes those that are too old to be kept."""
    state = io.BytesIO()
    torch.save(optimizer.state_dict(), state)
    uri = storage.join(run_uri, "checkpoints")
    for name, content in {
        files.WEIGHTS: models.weights(network),
        OPTIMIZER: state.getvalue(),
        PROGRESS: json.dumps(asdict(progress)).encode(),
    }.items():
        storage.write(storage.join(uri, f"{progress.epoch:05}", name), content)
    for old in _complete(uri)[:-KEEP]:
        storage.delete_folder(storage.join(uri, old))


def load(run_uri: str, network: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> Progress:
    """Puts the last checkpoint of a run, if it has one, into a network and its optimizer; returns how far it was."""
    uri = storage.join(run_uri, "checkpoints")
    complete = _complete(uri)
    if not complete:
        return Progress()
    folder = storage.join(uri, complete[-1])
    models.load_weights(network, storage.read(storage.join(folder, files.WEIGHTS)))
    state = io.BytesIO(storage.read(storage.join(folder, OPTIMIZER)))
    optimizer.load_state_dict(torch.load(state, map_location=device, weights_only=True))
    return Progress(**storage.read_json(storage.join(folder, PROGRESS)))


def _complete(uri: str) -> list[str]:
    """The names of the checkpoints in a folder, oldest first."""
    if not storage.exists(uri):
        return []
    return [path.removesuffix(f"/{PROGRESS}") for path in storage.list_files(uri) if path.endswith(f"/{PROGRESS}")]
