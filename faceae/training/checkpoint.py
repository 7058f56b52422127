"""Checkpoints: everything a run needs to continue as if it had never stopped.

A checkpoint is a folder of the run: `checkpoints/<epoch>/` after an epoch, `checkpoints/<epoch>-<images>/` inside the
one that follows. Its progress.json is written last and holds the SHA-256 digests of the other files, so a checkpoint
without it, or with content that does not match, is not used.
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
from faceae.training.state import Snapshot, TrainState

KEEP = 2
"""Number of checkpoints of a run that are kept: the most recent ones."""

STATE, PROGRESS = "state.pt", "progress.json"


class _DamagedError(Exception):
    """A checkpoint cannot be used; the message says why."""


def save(run_uri: str, snapshot: Snapshot, progress: Progress) -> None:
    """Writes a checkpoint and deletes those beyond `KEEP`.

    Raises:
        OSError: the storage refused; earlier checkpoints are untouched.
    """
    buffer = io.BytesIO()
    torch.save(snapshot.state, buffer)
    content = {files.WEIGHTS: models.weights(snapshot.network), STATE: buffer.getvalue()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    content[PROGRESS] = json.dumps({**asdict(progress), "sha256": digests}).encode()
    uri = storage.join(run_uri, "checkpoints")
    for name, data in content.items():
        storage.write(storage.join(uri, progress.name, name), data)
    for old in [name for name, complete in _checkpoints(uri).items() if complete][:-KEEP]:
        storage.delete_folder(storage.join(uri, old))


def load(run_uri: str, state: TrainState, device: torch.device) -> tuple[Progress, list[str]]:
    """Loads the latest intact checkpoint of a run, if it has any.

    Args:
        run_uri: the run's folder.
        state: the train state, which receives the checkpoint's weights, optimizer and EMA.
        device: where the state's tensors live.

    Returns:
        How far the run was, and a sentence for each later checkpoint that could not be used.

    Raises:
        RunFailedError: the run has checkpoints, but none can be used.
    """
    uri = storage.join(run_uri, "checkpoints")
    found = _checkpoints(uri)
    unusable: list[str] = []
    for name, complete in reversed(found.items()):
        try:
            if not complete:
                raise _DamagedError("it was not written completely")
            return _load(storage.join(uri, name), state, device), unusable
        except _DamagedError as error:
            unusable.append(f"checkpoint {name} cannot be used: {error}")
    if any(found.values()):
        raise RunFailedError(f"{uri}: {unusable[0]}, nor can any other be used; start again under another --run.name")
    return Progress(), unusable


def _load(uri: str, state: TrainState, device: torch.device) -> Progress:
    content: dict[str, bytes] = {}
    try:
        progress = storage.read_json(storage.join(uri, PROGRESS))
        for name, digest in progress.pop("sha256").items():
            content[name] = storage.read(storage.join(uri, name))
            if hashlib.sha256(content[name]).hexdigest() != digest:
                raise _DamagedError(f"{name} does not match what was written")
    except FileNotFoundError as error:
        raise _DamagedError("one of its files is missing") from error
    except (ValueError, KeyError) as error:
        raise _DamagedError(f"{PROGRESS} does not match what was written") from error
    models.load_weights(state.network, content[files.WEIGHTS])
    try:
        state.load_state_dict(torch.load(io.BytesIO(content[STATE]), map_location=device, weights_only=True))
    except KeyError as error:
        raise _DamagedError(f"another version of faceae wrote it: {STATE} has no {error}") from error
    return Progress(progress["history"], EpochResult(**progress["part"]), progress["seconds"])


def discard_after(run_uri: str, progress: Progress) -> None:
    """Deletes the checkpoints that come after this progress, which could not be used."""
    uri = storage.join(run_uri, "checkpoints")
    for name in _checkpoints(uri):
        if name > progress.name:
            storage.delete_folder(storage.join(uri, name))


def _checkpoints(uri: str) -> dict[str, bool]:
    """Lists the checkpoints in a folder, oldest first: name -> whether it was written completely."""
    found: dict[str, bool] = {}
    for path in storage.list_files(uri, missing_ok=True):
        name, _, file = path.partition("/")
        found[name] = found.get(name, False) or file == PROGRESS
    return dict(sorted(found.items()))
