"""What a run needs to go on as if it had never stopped.

A checkpoint is a folder of the run, `checkpoints/<epoch>/`, or `checkpoints/<epoch>-<images>/` from inside the epoch
after that one. Its progress.json is written last and holds the digests of the other files: a folder without it, or with
other content, does not count.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict

import torch

from faceae import models, storage
from faceae.errors import RunFailedError
from faceae.models import files
from faceae.training.progress import EpochResult, Progress
from faceae.training.state import Learner

KEEP = 2
"""Checkpoints of a run that are kept, the last ones."""

STATE, PROGRESS = "state.pt", "progress.json"


class _DamagedError(Exception):
    """Why a checkpoint cannot be used."""


def save(run_uri: str, learner: Learner, progress: Progress) -> None:
    """Writes a checkpoint, and deletes those that are too old to be kept.

    Raises:
        OSError: the storage refuses; the checkpoints before are as they were.
    """
    state = io.BytesIO()
    torch.save(learner.state(), state)
    content = {files.WEIGHTS: models.weights(learner.network), STATE: state.getvalue()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    content[PROGRESS] = json.dumps({**asdict(progress), "sha256": digests}).encode()
    uri = storage.join(run_uri, "checkpoints")
    for name, data in content.items():
        storage.write(storage.join(uri, progress.name, name), data)
    for old in [name for name, complete in _list(uri).items() if complete][:-KEEP]:
        storage.delete_folder(storage.join(uri, old))


def load(run_uri: str, learner: Learner, device: torch.device) -> tuple[Progress, list[str]]:
    """Puts the last checkpoint of a run that is whole, if it has any, into a learner.

    Returns:
        How far it was, and a sentence for each later checkpoint that could not be used.

    Raises:
        RunFailedError: none of its checkpoints can be used.
    """
    uri = storage.join(run_uri, "checkpoints")
    found = _list(uri)
    unusable: list[str] = []
    for name, complete in reversed(found.items()):
        try:
            if not complete:
                raise _DamagedError("it was not written to its end")
            return _load(storage.join(uri, name), learner, device), unusable
        except _DamagedError as error:
            unusable.append(f"checkpoint {name} cannot be used: {error}")
    if any(found.values()):
        raise RunFailedError(f"{uri}: {unusable[0]}, nor can another; begin anew under another --run.name")
    return Progress(), unusable


def _load(uri: str, learner: Learner, device: torch.device) -> Progress:
    content: dict[str, bytes] = {}
    try:
        progress = storage.read_json(storage.join(uri, PROGRESS))
        for name, digest in progress.pop("sha256").items():
            content[name] = storage.read(storage.join(uri, name))
            if hashlib.sha256(content[name]).hexdigest() != digest:
                raise _DamagedError(f"{name} is not what was written")
    except FileNotFoundError as error:
        raise _DamagedError("a file of it is missing") from error
    except (ValueError, KeyError) as error:
        raise _DamagedError(f"{PROGRESS} is not what was written") from error
    models.load_weights(learner.network, content[files.WEIGHTS])
    learner.load_state(torch.load(io.BytesIO(content[STATE]), map_location=device, weights_only=True))
    return Progress(progress["history"], EpochResult(**progress["part"]), progress["seconds"])


def discard_after(run_uri: str, progress: Progress) -> None:
    """Deletes the checkpoints after this one: they could not be used."""
    uri = storage.join(run_uri, "checkpoints")
    for name in _list(uri):
        if name > progress.name:
            storage.delete_folder(storage.join(uri, name))


def _list(uri: str) -> dict[str, bool]:
    """The names of the checkpoints in a folder, oldest first, and whether each was written to its end."""
    found: dict[str, bool] = {}
    for path in storage.list_files(uri, missing_ok=True):
        name, _, file = path.partition("/")
        found[name] = found.get(name, False) or file == PROGRESS
    return dict(sorted(found.items()))
