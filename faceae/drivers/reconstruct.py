"""The driver of jobs/reconstruct.py: restores pictures in bulk."""

from __future__ import annotations

import functools
import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import ray
import torch
from pyarrow import ArrowException
from ray.exceptions import RayError

from faceae import config, models, storage
from faceae.cluster import connection
from faceae.cluster.replicas import REPLICA_CPUS, plan_replicas
from faceae.config.jobs import ReconstructSettings, ReplicaScale
from faceae.console import Meter, count, out
from faceae.data import rejected
from faceae.data.execution import ActorPool, stream
from faceae.data.full_size import SCHEMA, FullSizeSource, unpacked, write_full_size
from faceae.data.images import EXTENSIONS
from faceae.data.rejected import Rejected
from faceae.data.sources import Entry, list_sources
from faceae.errors import InputError, RunFailedError, one_line
from faceae.models import Restorer
from faceae.run_folder import versions

SUMMARY = "summary.json"

Summary = dict[str, Any]


def reconstruct(settings: ReconstructSettings) -> Summary:
    """Restores pictures into a folder, as docs/usage.md describes it.

    Args:
        settings: the job's settings; validated here.

    Returns:
        The content of summary.json.

    Raises:
        InputError: the input is wrong.
        RunFailedError: the storage or the cluster failed; finished pictures stay.
    """
    settings, start = config.validate(settings), time.monotonic()
    model = _load(settings.model)
    dest = storage.absolute(settings.dest)
    listing = list_sources([settings.source], "SOURCE")
    names = output_names([entry.image_id for entry in listing.entries])
    _check_apart(listing.entries, names, storage.absolute(settings.source), dest)
    masks = _masks(listing.entries, settings.masks)
    summary = _begin(settings, model, dest)
    there = set(storage.list_files(dest))
    for half_written in (name for name in there if name.endswith(storage.PARTIAL)):
        storage.delete(storage.join(dest, half_written))

    bad, todo = list(listing.refused), dict[Entry, str]()
    for entry in listing.entries:
        name = names[entry.image_id]
        if name is None:
            bad.append((entry.image_id, "its name leads out of the folder"))
        elif name not in there and masks is not None and entry not in masks:
            bad.append((entry.image_id, f"there is no mask with its name in {settings.masks}"))
        elif name not in there:
            todo[entry] = name
    done = len(there.intersection(name for name in names.values() if name))
    out.print(f"pictures  {len(listing.entries)} in {settings.source}, restored to {dest}")
    if done:
        out.print(f"resumed   {done} are there, {count(len(todo), 'picture')} left")
    if todo:
        bad += _work(FullSizeSource(todo, masks or {}, model.settings.data.image_size), model, settings.scale, dest)
    return _finish(summary, dest, bad, len(listing.entries) + len(listing.refused), done, time.monotonic() - start)


def output_names(image_ids: Sequence[str]) -> dict[str, str | None]:
    """Returns the file to write for each picture: its name with the extension replaced by .png.

    Where several pictures would share that name, .png follows the extension instead. None stands for a name that leads
    out of the folder, as a hostile archive may contain.
    """
    stems = {image_id: _stem(image_id) for image_id in image_ids}
    shared = Counter(stems.values())
    return {
        image_id: f"{stem if shared[stem] == 1 else image_id}.png" if _stays(image_id) else None
        for image_id, stem in stems.items()
    }


def _stem(image_id: str) -> str:
    path = PurePosixPath(image_id)
    return str(path.with_suffix("")) if path.suffix.lower() in EXTENSIONS else image_id


def _stays(image_id: str) -> bool:
    return not image_id.startswith("/") and ".." not in PurePosixPath(image_id).parts


def _load(uri: str) -> Restorer:
    try:
        storage.info(uri)  # is not retried, so that a wrong endpoint is reported at once
        return models.load(uri)
    except InputError as error:
        raise InputError(f"MODEL {error}") from None


def _check_apart(entries: Sequence[Entry], names: Mapping[str, str | None], source: str, dest: str) -> None:
    """Checks that no picture is overwritten, and that no restored picture is taken for one to restore."""
    written = {storage.join(dest, name) for name in names.values() if name}
    if f"{dest}/".startswith(f"{source}/") or not written.isdisjoint(entry.uri for entry in entries):
        raise InputError(f"DEST {dest}: this is where the pictures of SOURCE are; name a folder outside it")


def _masks(entries: Sequence[Entry], uri: str | None) -> dict[Entry, Entry] | None:
    """Returns the mask of each picture, matched by name, for pictures that have one; None if no masks are given."""
    if uri is None:
        return None
    masks: dict[str, Entry] = {}
    for mask in list_sources([uri], "--masks").entries:
        other = masks.setdefault(_stem(mask.image_id), mask)
        if other is not mask:
            raise InputError(f"--masks {uri}: {other.image_id} and {mask.image_id} have the same name; keep only one")
    found = {entry: masks[stem] for entry in entries if (stem := _stem(entry.image_id)) in masks}
    if not found:
        raise InputError(
            f"--masks {uri}: no mask is named like a picture of SOURCE (the extension may differ); there is none for "
            f"{entries[0].image_id}, for example"
        )
    return found


def _begin(settings: ReconstructSettings, model: Restorer, dest: str) -> Summary:
    """Writes an unfinished summary, which also shows whether the folder can be written.

    Raises:
        InputError: the folder cannot be written, or it holds another model's pictures.
    """
    about = {"uri": storage.absolute(settings.model), "sha256": hashlib.sha256(models.weights(model)).hexdigest()}
    summary: Summary = {
        "finished": False,
        "model": about,
        "source": settings.source,
        "masks": settings.masks,
        "versions": versions("faceae", "torch", "pillow"),
    }
    uri = storage.join(dest, SUMMARY)
    try:
        if storage.is_remote(dest) and not storage.bucket_exists(dest):
            raise InputError(f"{dest}: the bucket does not exist; create it first")
        before = storage.read_json(uri).get("model", about) if storage.exists(uri) else about
        if before["sha256"] != about["sha256"]:
            raise InputError(f"{dest}: holds pictures restored by another model, {before['uri']}; name another folder")
        storage.write_json(uri, summary)
    except InputError as error:
        raise InputError(f"DEST {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"DEST {storage.explain(error, dest)}") from None
    return summary


class _Worker:
    """A replica of the model in its own process."""

    def __init__(self, model: ray.ObjectRef, device: str) -> None:
        torch.set_num_threads(REPLICA_CPUS)
        self.model = ray.get(model).to(device)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Restores the pictures of a block that `faceae.data.full_size` made."""
        rows = block.to_pylist()
        usable = [row for row in rows if row["reason"] is None]
        pictures, holes = zip(*map(unpacked, usable), strict=True) if usable else ((), ())
        for row, pixels in zip(usable, self.model.restore(pictures, holes), strict=True):
            row["pixels"] = pixels.tobytes()
        return pa.Table.from_pylist(rows, SCHEMA)


def _work(source: FullSizeSource, model: Restorer, machines: ReplicaScale, dest: str) -> list[Rejected]:
    """Restores pictures on the cluster; returns those that could not be restored."""
    connection.connect(REPLICA_CPUS)
    placed = plan_replicas(machines).at_most(len(source.units))
    out.print(f"model     {count(placed.size, 'replica')} on {'GPUs' if placed.gpu else 'CPUs'}")
    pool = ActorPool(_Worker, (ray.put(model), "cuda" if placed.gpu else "cpu"), placed)
    bad: list[Rejected] = []
    try:
        with Meter("restoring", len(source.names)) as meter:
            for said in stream(source, len(source.units), pool, functools.partial(write_full_size, dest=dest)):
                bad += [(row["image_id"], row["reason"]) for row in said.to_pylist() if row["reason"] is not None]
                meter.add(said.num_rows)
    except (RayError, OSError) as error:
        raise RunFailedError(
            f"{one_line(error)}; what is finished stays: fix this, and the same command continues"
        ) from None
    out.print(f"restored  {meter.summary()}")
    return bad


def _finish(summary: Summary, dest: str, bad: list[Rejected], total: int, done: int, seconds: float) -> Summary:
    """Writes the list of rejected pictures, and the summary."""
    rejected.write_to(dest, bad)
    restored = total - done - len(bad)
    if not restored + done:
        reason, number = Counter(reason for _, reason in bad).most_common(1)[0]
        raise InputError(
            f"SOURCE: no picture could be restored; {number} of {total}: {reason}. All are listed in "
            f"{storage.join(dest, rejected.FILE)}"
        )
    counts = {"pictures": total, "restored": restored, "there_before": done, "rejected": len(bad)}
    summary |= {"finished": True, "counts": counts, "seconds": round(seconds, 1)}
    storage.write_json(storage.join(dest, SUMMARY), summary)
    out.print(f"summary   {storage.join(dest, SUMMARY)}")
    return summary
