"""The driver of jobs/reconstruct.py: restores pictures in bulk."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
import torch
from pyarrow import ArrowException
from ray.exceptions import RayError

from faceae import claim, config, models, storage
from faceae.cluster import connection
from faceae.cluster.replicas import REPLICA_CPUS, plan_replicas
from faceae.config.jobs import ReconstructSettings
from faceae.console import Meter, clock, count, out
from faceae.corruption import edges
from faceae.data import rejected
from faceae.data.execution import ActorPool, stream
from faceae.data.full_size import FullSizeSource, block, rows_of, unpacked, write_full_size
from faceae.data.images import MAX_PIXELS, decode_whole
from faceae.data.output_names import output_names, stem
from faceae.data.rejected import Rejected
from faceae.data.sources import SYNTHETIC, Entry, digest, list_sources
from faceae.errors import InputError, RunFailedError, one_line
from faceae.models import Restorer
from faceae.reporting import restored
from faceae.run_folder import versions

SUMMARY = "summary.json"
MADE_BY = "jobs/reconstruct.py"
"""The value of `made_by` in our summaries; training runs also leave files named summary.json."""

OURS = (SUMMARY, rejected.FILE, claim.FILE, restored.FILE)
"""The files that the job writes besides the restored pictures."""

_OPTIONS = {"grow": 0, "feather": 0, "format": "png"}
"""The flags on which the restored pictures depend; their values, in a summary that lacks them, were these."""

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
    names, bad = output_names([entry.image_id for entry in listing.entries], OURS, own=settings.format == "source")
    _check_apart(listing.entries, names, storage.absolute(settings.source), dest)
    masks = _masks(listing.entries, settings.masks)
    summary = _describe(settings, model, listing.entries, masks)
    size = model.settings.data.image_size
    with _held(dest):
        there = _begin(summary, dest)
        bad += listing.refused
        todo = dict[Entry, str]()
        for entry in listing.entries:
            name = names.get(entry.image_id)
            if name is None or name in there:
                continue
            if isinstance(masks, dict) and entry not in masks:
                bad.append((entry.image_id, f"there is no mask with its name in {settings.masks}; add it"))
            else:
                todo[entry] = name
        done = len(there.intersection(names.values()))
        out.print(f"pictures  {len(listing.entries)} in {settings.source}, restored to {dest}")
        if done:
            out.print(f"resumed   {done} are there, {count(len(todo), 'picture')} left")
        if todo:
            bad += _work(FullSizeSource(todo, masks, size, settings.grow), model, settings, dest)
        total = len(listing.entries) + len(listing.refused)
        summary = _finish(summary, dest, bad, total, done, time.monotonic() - start)
        missing = {image_id for image_id, _ in bad}
        written = {e: names[e.image_id] for e in listing.entries if e.image_id in names and e.image_id not in missing}
        restored.write(dest, _shown(FullSizeSource(written, masks, size, settings.grow), dest), summary)
        out.print(f"page      {storage.join(dest, restored.FILE)}")
        return summary


def _load(uri: str) -> Restorer:
    try:
        return models.load(uri)
    except InputError as error:
        raise InputError(f"MODEL {error}") from None


def _check_apart(entries: Sequence[Entry], names: Mapping[str, str], source: str, dest: str) -> None:
    """Checks that no picture is overwritten, and that no restored picture is taken for one to restore."""
    written = {storage.join(dest, name) for name in names.values()}
    if f"{dest}/".startswith(f"{source}/") or not written.isdisjoint(entry.uri for entry in entries):
        raise InputError(f"DEST {dest}: this is where the pictures of SOURCE are; name a folder outside it")


_Masks = dict[Entry, Entry] | Entry | None
"""The mask of each picture that has one, or the one mask of all; None if no masks are given."""


def _masks(entries: Sequence[Entry], uri: str | None) -> _Masks:
    """Lists the masks, and matches them with the pictures by name, unless there is but one."""
    if uri is None:
        return None
    listed = list_sources([uri], "--masks").entries
    if len(listed) == 1 and listed[0] == Entry(listed[0].image_id, storage.absolute(uri)):  # a single image file
        return listed[0]
    masks: dict[str, Entry] = {}
    for mask in listed:
        other = masks.setdefault(stem(mask.image_id), mask)
        if other is not mask:
            raise InputError(f"--masks {uri}: {other.image_id} and {mask.image_id} have the same name; keep only one")
    found = {entry: masks[name] for entry in entries if (name := stem(entry.image_id)) in masks}
    if not found:
        raise InputError(
            f"--masks {uri}: no mask is named like a picture of SOURCE (the extension may differ); there is none for "
            f"{entries[0].image_id}, for example. To use one mask for all pictures of its shape, name its file"
        )
    return found


def _describe(settings: ReconstructSettings, model: Restorer, entries: Sequence[Entry], masks: _Masks) -> Summary:
    """Returns an unfinished summary, with what the restored pictures depend on, model, source and masks as digests."""
    listed = list(masks.values()) if isinstance(masks, dict) else [masks] if masks else []
    about = {"uri": storage.absolute(settings.model), "sha256": hashlib.sha256(models.weights(model)).hexdigest()}
    return {
        "made_by": MADE_BY,
        "finished": False,
        "model": about,
        "source": settings.source,
        "source_sha256": _digest(entries, settings.source),
        "masks": settings.masks,
        "masks_sha256": _digest(listed, settings.masks) if settings.masks else None,
        **{name: getattr(settings, name) for name in _OPTIONS},
        "versions": versions("faceae", "torch", "pillow"),
    }


def _digest(entries: Sequence[Entry], uri: str) -> str:
    return digest(entries, {} if uri.startswith(SYNTHETIC) else storage.stamps(storage.absolute(uri)))


@contextlib.contextmanager
def _held(dest: str) -> Iterator[None]:
    """Keeps other processes from writing to a folder during a with block.

    Raises:
        InputError: another process writes there, or the folder cannot be written.
    """
    try:
        storage.check_bucket(dest)
        holder = claim.take(dest, dest)
    except InputError as error:
        raise InputError(f"DEST {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"DEST {storage.explain(error, dest)}") from None
    with holder:
        yield


def _begin(summary: Summary, dest: str) -> set[str]:
    """Writes the unfinished summary, which also shows whether the folder can be written.

    Returns:
        The names of the files that are there.

    Raises:
        InputError: the folder cannot be written, was not written by this job, or holds pictures that were restored with
            another model, source or masks.
    """
    try:
        files = storage.list_files(dest, missing_ok=True)
        half_written = [name for name in files if storage.is_partial(name)]
        there = set(files).difference(half_written, [claim.FILE])
        if there:
            before = _read_summary(dest)
            if there.difference(OURS):
                _check_same(before, summary, dest)
        for name in half_written:
            storage.delete(storage.join(dest, name))
        storage.write_json(storage.join(dest, SUMMARY), summary)
    except InputError as error:
        raise InputError(f"DEST {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"DEST {storage.explain(error, dest)}") from None
    return there


def _read_summary(dest: str) -> Summary:
    """Returns the summary that this job has left in a folder.

    Raises:
        InputError: there is none, or that of another program.
    """
    try:
        summary = storage.read_object(storage.join(dest, SUMMARY))
    except FileNotFoundError:
        summary = {}
    if summary.get("made_by") != MADE_BY:
        raise InputError(f"{dest}: it has files, but is not a folder that reconstruct wrote; name another folder")
    return summary


def _check_same(before: Summary, now: Summary, dest: str) -> None:
    """Checks that the pictures in a folder are those that the same command would give.

    Raises:
        InputError: they were restored with another model, source or masks, or other flags.
    """
    differing = []
    try:
        if before["model"]["sha256"] != now["model"]["sha256"]:
            differing.append(f"MODEL ({before['model']['uri']} then)")
        for flag, key in (("SOURCE", "source"), ("--masks", "masks")):
            if before[f"{key}_sha256"] != now[f"{key}_sha256"]:
                differing.append(f"{flag} ({before[key]} then)")
        for name, default in _OPTIONS.items():
            if before.get(name, default) != now[name]:
                differing.append(f"--{name} ({before.get(name, default)} then)")
    except (KeyError, TypeError):
        raise InputError(f"{storage.join(dest, SUMMARY)}: is damaged; name another folder") from None
    if differing:
        raise InputError(
            f"{dest}: holds pictures that were restored with another {' and another '.join(differing)}, or files in it "
            "have changed since; name another folder"
        )


class _Worker:
    """A replica of the model in its own process."""

    def __init__(self, model: ray.ObjectRef, device: str, feather: int) -> None:
        torch.set_num_threads(REPLICA_CPUS)
        self.model, self.feather = ray.get(model).to(device), feather

    def __call__(self, table: pa.Table) -> pa.Table:
        """Restores the pictures of a block that `faceae.data.full_size` made."""
        rows = rows_of(table)
        usable = [row for row in rows if row["reason"] is None]
        pictures, holes = zip(*map(unpacked, usable), strict=True) if usable else ((), ())
        for row, filled, picture, hole in zip(
            usable, self.model.restore(pictures, holes), pictures, holes, strict=True
        ):
            edges.feather(filled, picture, hole, self.feather)
            row["pixels"] = filled
        return block(rows)


def _work(source: FullSizeSource, model: Restorer, settings: ReconstructSettings, dest: str) -> list[Rejected]:
    """Restores pictures on the cluster; returns those that could not be restored."""
    connection.connect(REPLICA_CPUS)
    placed = plan_replicas(settings.scale).at_most(len(source.units))
    out.print(f"model     {count(placed.size, 'replica')} on {'GPUs' if placed.gpu else 'CPUs'}")
    pool = ActorPool(_Worker, (ray.put(model), placed.device, settings.feather), placed)
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
    finished = count(meter.done - len(bad), "picture")
    out.print(f"restored  {finished} in {clock(meter.seconds())} ({meter.rate():.1f} pictures read a second)")
    return bad


def _shown(source: FullSizeSource, dest: str) -> list[restored.Shown]:
    """Returns crops of some pictures for the page, read once more: it shows also what an earlier session restored."""
    pictures, pixels = list(source.names), 0
    shown: list[restored.Shown] = []
    for entry in pictures[:: -(-len(pictures) // restored.PICTURES)]:
        if pixels >= MAX_PIXELS:  # of very large ones, few are shown
            break
        (row,) = (row for table in source.read([entry]) for row in rows_of(table))
        if row["reason"] is None:
            before, hole = unpacked(row)
            after = decode_whole(storage.read(storage.join(dest, row["name"]))).pixels
            shown.append(restored.shown(entry.image_id, before, hole, after))
            pixels += hole.size
    return shown


def _finish(summary: Summary, dest: str, bad: list[Rejected], total: int, done: int, seconds: float) -> Summary:
    """Writes the list of rejected pictures, and the summary."""
    rejected.write_to(dest, bad, "picture")
    number_restored = total - done - len(bad)
    if not number_restored + done:
        reason, number = Counter(reason for _, reason in bad).most_common(1)[0]
        raise InputError(
            f"SOURCE: no picture could be restored; {number} of {total}: {reason}. All are listed in "
            f"{storage.join(dest, rejected.FILE)}"
        )
    counts = {"pictures": total, "restored": number_restored, "there_before": done, "rejected": len(bad)}
    summary |= {"finished": True, "counts": counts, "seconds": round(seconds, 1)}
    storage.write_json(storage.join(dest, SUMMARY), summary)
    out.print(f"summary   {storage.join(dest, SUMMARY)}")
    return summary
