"""What a run needs to go on as if it had never stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faceae import models
from faceae.models import files

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


def save(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes a checkpoint into a local folder."""
    (folder / files.WEIGHTS).write_bytes(models.weights(network))
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    (folder / "progress.json").write_text(json.dumps(asdict(progress)))


def load(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> Progress:
    """Puts a checkpoint into a network and its optimizer, and returns how far the run was."""
    models.load_weights(network, (folder / files.WEIGHTS).read_bytes())
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location=device, weights_only=True))
    return Progress(**json.loads((folder / "progress.json").read_text()))
