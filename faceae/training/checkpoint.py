"""Checkpoints: everything a run needs to continue as if it had never stopped.

A checkpoint is a folder of the run: `checkpoints/<epoch>/` after an epoch, `checkpoints/<epoch>-<images>/` inside the
one that follows. Its progress.json is written last and holds the SHA-256 digests of the other files and of itself, so a
checkpoint without it, or with content that does not match, is not used.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import asdict
from typing import Any

import torch

from faceae import models, storage
from faceae.errors import RunFailedError, one_line
from faceae.models import files
from faceae.training.progress import EpochResult, Progress
from faceae.training.state import Snapshot, TrainState

KEEP = 2
"""Number of checkpoints of a run that are kept: the most recent ones."""

STATE, PROGRESS = "state.pt", "progress.json"

_OWN_DIGEST = "progress_sha256"
_NAME = re.compile(r"\d{5,}(-\d{9,})?")


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
    told = {**asdict(progress), "sha256": {name: _sha256(data) for name, data in content.items()}}
    content[PROGRESS] = json.dumps({**told, _OWN_DIGEST: _digest(told)}).encode()
    uri = storage.join(run_uri, "checkpoints")
    for name, data in content.items():
        storage.write(storage.join(uri, progress.name, name), data)
    for old in [name for name, complete in _checkpoints(uri).items() if complete][:-KEEP]:
        storage.delete_folder(storage.join(uri, old))


def copy(from_run: str, to_run: str) -> None:
    """Copies the latest complete checkpoint of a run into the folder of another, which then goes on from it."""
    found = _checkpoints(storage.join(from_run, "checkpoints"))
    latest = max(name for name, complete in found.items() if complete)
    for name in (files.WEIGHTS, STATE, PROGRESS):  # the last of them makes it one
        content = storage.read(storage.join(from_run, "checkpoints", latest, name))
        storage.write(storage.join(to_run, "checkpoints", latest, name), content)


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
    try:
        progress, digests = _read_progress(uri)
        content = {name: storage.read(storage.join(uri, name)) for name in (files.WEIGHTS, STATE)}
    except (FileNotFoundError, IsADirectoryError) as error:
        raise _DamagedError("one of its files is missing") from error
    for name, data in content.items():
        if _sha256(data) != digests.get(name):
            raise _DamagedError(f"{name} does not match what was written")
    try:
        models.load_weights(state.network, content[files.WEIGHTS])
        state.load_state_dict(torch.load(io.BytesIO(content[STATE]), map_location=device, weights_only=True))
    except KeyError as error:
        raise _DamagedError(f"another version of faceae wrote it: {STATE} has no {error}") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a parser says of content that this version did not write
        raise _DamagedError(f"it does not fit this run: {one_line(error)}") from error
    return progress


def _read_progress(uri: str) -> tuple[Progress, dict[str, str]]:
    """Returns the progress and the digests of the other files, after checking that they are what was written."""
    try:
        told = storage.read_json(storage.join(uri, PROGRESS))
        own = told.pop(_OWN_DIGEST, None)  # earlier versions wrote none
        progress = Progress(told["history"], EpochResult(**told["part"]), told["seconds"])
        intact = own in (None, _digest(told)) and told.keys() == {"history", "part", "seconds", "sha256"}
        if intact and progress.name == uri.rpartition("/")[2]:
            return progress, dict(told["sha256"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise _DamagedError(f"{PROGRESS} does not match what was written")


def _digest(content: dict[str, Any]) -> str:
    return _sha256(json.dumps(content, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
        if _NAME.fullmatch(name):
            found[name] = found.get(name, False) or file == PROGRESS
    return dict(sorted(found.items()))
