"""The driver of jobs/reconstruct.py: restores pictures in bulk."""

from __future__ import annotations

import functools
import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.exceptions import RayError

from faceae import config, models, storage
from faceae.cluster import connection
from faceae.cluster.replicas import REPLICA_CPUS, plan_replicas
from faceae.config.restore import ReconstructSettings
from faceae.console import Meter, clock, count, out, speed
from faceae.corruption import edges
from faceae.data import rejected
from faceae.data.execution import ActorPool, stream
from faceae.data.full_size import FullSizeSource, block, packed, rows_of, unpacked, write_full_size
from faceae.data.images import MAX_PIXELS, decode_whole
from faceae.data.metadata import Metadata
from faceae.data.output_names import output_names, stem
from faceae.data.rejected import Rejected
from faceae.data.sources import SYNTHETIC, Entry, digest, list_sources
from faceae.drivers.restored_folder import MADE_BY, OPTIONS, OURS, SUMMARY, Summary, begin, held
from faceae.errors import InputError, RunFailedError, one_line
from faceae.models import Restorer
from faceae.reporting import restored
from faceae.run_folder import versions


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
    model = _load(settings)
    dest = storage.absolute(settings.dest)
    listing = list_sources([settings.source], "SOURCE")
    names, bad = output_names([entry.image_id for entry in listing.entries], OURS, own=settings.format == "source")
    _check_apart(listing.entries, names, storage.absolute(settings.source), dest)
    masks = _masks(listing.entries, settings.masks)
    summary = _describe(settings, model, listing.entries, masks)
    source = functools.partial(
        FullSizeSource, masks=masks, image_size=model.settings.data.image_size, grow=settings.grow, whole=model.whole
    )
    with held(dest):
        there = begin(summary, dest)
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
            bad += _work(source(todo), model, settings, dest)
        total = len(listing.entries) + len(listing.refused)
        summary = _finish(summary, dest, bad, total, done, time.monotonic() - start)
        missing = {image_id for image_id, _ in bad}
        written = {e: names[e.image_id] for e in listing.entries if e.image_id in names and e.image_id not in missing}
        restored.write(dest, _shown(source(written), dest), summary, whole=model.whole)
        out.print(f"page      {storage.join(dest, restored.FILE)}")
        return summary


def _load(settings: ReconstructSettings) -> Restorer:
    try:
        model = models.load(settings.model)
        model = model.for_task(settings.task) if settings.task else model
        if settings.masks or settings.grow or settings.feather:
            model.check_fills_holes()
        elif model.whole:
            model.check_redoes_pictures()
    except InputError as error:
        raise InputError(f"MODEL {error}") from None
    return model


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
        **{name: getattr(settings, name) for name in OPTIONS},
        "versions": versions("faceae", "torch", "pillow"),
    }


def _digest(entries: Sequence[Entry], uri: str) -> str:
    return digest(entries, {} if uri.startswith(SYNTHETIC) else storage.stamps(storage.absolute(uri)))


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
        if self.model.whole:
            for row, picture in zip(usable, pictures, strict=True):
                made = self.model.redo(picture)  # perhaps larger
                row |= packed(made, np.ones(made.shape[:2], np.bool_))
                if self.model.gives_colours:
                    row["metadata"] = Metadata(**row["metadata"]).coloured()._asdict()
            return block(rows)
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
    out.print(f"restored  {finished} in {clock(meter.seconds())} ({speed(meter.rate())})")
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
