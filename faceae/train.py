"""One training run, from the settings to the report: what the driver does."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import ray

from faceae import cluster, config, console, models, report, storage
from faceae.baselines import measure
from faceae.checkpoint import Progress
from faceae.cluster import Placement
from faceae.config import Settings
from faceae.console import Meter, out
from faceae.data.cache import Blocks, Rejected, decode_train, decode_val, fits
from faceae.data.feed import Order, validation
from faceae.data.reader import image_bytes
from faceae.data.sources import SYNTHETIC
from faceae.data.split import Split
from faceae.errors import InputError
from faceae.fit import fit
from faceae.metrics import Sums
from faceae.run import RunFolder


@dataclass(frozen=True)
class Images:
    """The images of a run, decoded: what a grid decodes once for all its trials."""

    train: Blocks
    val: Blocks
    counts: dict[str, int]


def train(settings: Settings) -> dict[str, Any]:
    """Trains one model and leaves the run's folder as the README describes it.

    Args:
        settings: of the run; checked here, whoever made them.

    Returns:
        The content of summary.json.

    Raises:
        InputError: the input is wrong; said before any worker starts, but for images that cannot be decoded.
        RunFailedError: the run failed.
    """
    started = time.monotonic()
    settings = config.validate(settings)
    folder = RunFolder(settings)
    split = Split(settings.data)
    resumed = folder.open()
    settings = folder.settings
    out.print(f"run       {folder.uri}" + (" (continued)" if resumed else ""))
    try:
        cluster.connect(settings.scale)
        placement = cluster.place(settings.scale)
        out.print(f"cluster   {placement}")
        _check_shares(f"--train.batch-size {settings.train.batch_size}", settings.train.batch_size, placement)
        images = load_images(settings, split, folder)
        _check_shares("--data.source", len(images.train), placement)
    except InputError:
        if not resumed:
            folder.withdraw()
        raise
    order = Order(
        blocks=images.train,
        seed=settings.train.seed,
        batch_size=settings.train.batch_size,
        image_size=settings.data.image_size,
        box_size=settings.mask.size,
    )
    device = fit(folder, order, images.val, placement)
    summary = _conclude(folder, images, placement, device, started)
    _say(summary, settings, folder)
    return summary


def _check_shares(what: str, images: int, placement: Placement) -> None:
    if images < placement.workers:
        raise InputError(
            f"{what}: {images} images cannot be shared among {placement.workers} workers; use fewer --scale.workers"
        )


def load_images(settings: Settings, split: Split, folder: RunFolder) -> Images:
    """Decodes all images of a run into the cluster's object store, and lists the rejected.

    Raises:
        InputError: too many images cannot be used.
    """
    size, total = settings.data.image_size, len(split.train) + len(split.val)
    out.print(f"images    {len(split.train)} to train on, {len(split.val)} to validate ({split.rule})")
    if not fits(total, size):
        out.print(
            f"note      {total * image_bytes(size) / 1e9:.1f} GB of decoded images do not fit in the cluster's object "
            "store: Ray keeps the rest on the nodes' disks"
        )
    with Meter("decoding", total) as meter:
        val, bad_val = decode_val(split.val, size, settings.mask.size, meter.add)
        train, bad_train = decode_train(split.train, size, meter.add)
    out.print(f"decoded   {meter.summary()}")
    bad = bad_train + bad_val
    rejected = sorted(split.refused + bad)
    rows = [{"image_id": image_id, "reason": reason} for image_id, reason in rejected]
    storage.write_lines(folder.path("rejected.jsonl"), rows)
    if rejected:
        out.print(f"rejected  {len(rejected)} images, see {folder.path('rejected.jsonl')}")
    _check_rejected(bad, total, settings, folder)
    if not len(train) or not len(val):
        raise InputError("--data.source: no usable image is left for training or for validation; give more images")
    counts = {
        "read": total + len(split.refused),
        "rejected": len(rejected),
        "train": len(train),
        "val": len(val),
    }
    return Images(train, val, counts)


def _check_rejected(bad: list[Rejected], total: int, settings: Settings, folder: RunFolder) -> None:
    allowed = settings.data.max_rejected_fraction
    if len(bad) > allowed * total:
        reason, count = Counter(reason for _, reason in bad).most_common(1)[0]
        raise InputError(
            f"--data.source: {len(bad)} of {total} images cannot be used, more than --data.max-rejected-fraction "
            f"{allowed:g} allows; {count} of them: {reason}. All are listed in {folder.path('rejected.jsonl')}"
        )


def _conclude(folder: RunFolder, images: Images, placement: Placement, device: str, started: float) -> dict[str, Any]:
    """Measures the baselines over the same masks, and writes summary.json and the report."""
    settings = folder.settings
    history = [json.loads(line) for line in storage.read(folder.path("metrics.jsonl")).splitlines()]
    best = Progress(history).best(settings.train.best_by)
    summary = {
        "run": folder.name,
        "epochs": history[-1]["epoch"],
        "best_epoch": best["epoch"],
        "best_by": settings.train.best_by,
        "val": best["val"],
        "train_loss": best["train_loss"],
        "baselines": measure_baselines(images.val, settings),
        "counts": images.counts,
        "synthetic": any(uri.startswith(SYNTHETIC) for uri in settings.data.source),
        "wall_seconds": round(time.monotonic() - started, 1),
        "train_seconds": round(sum(record["seconds"] for record in history), 1),
        "workers": placement.workers,
        "device": device,
        "versions": {name: importlib.metadata.version(name) for name in ("faceae", "ray", "torch")},
    }
    size = settings.data.image_size
    batch = next(validation(images.val, size, report.FACES))
    sheet = report.contact_sheet(models.load(folder.path("model")), batch)
    report.write(folder.path("report"), settings, summary, history, sheet)
    storage.write_json(folder.path("summary.json"), summary)
    return summary


def measure_baselines(val: Blocks, settings: Settings) -> dict[str, dict[str, float]]:
    """The metrics of each baseline over the validation images, block by block on the cluster."""

    @ray.remote
    def measure_block(block: Blocks) -> dict[str, Sums]:
        return measure(validation(block, settings.data.image_size, settings.train.batch_size))

    blocks = [Blocks([ref], [rows]) for ref, rows in zip(val.refs, val.usable, strict=True)]
    with Meter("measuring the baselines", len(val)) as meter:
        totals: dict[str, Sums] = {}
        for block, measured in zip(blocks, [measure_block.remote(block) for block in blocks], strict=True):
            for name, sums in ray.get(measured).items():
                totals.setdefault(name, Sums()).merge(sums)
            meter.add(len(block))
    return {name: sums.means() for name, sums in totals.items()}


def _say(summary: dict[str, Any], settings: Settings, folder: RunFolder) -> None:
    out.print()
    out.print(console.result_table(summary, settings))
    if "telea" not in summary["baselines"]:
        out.print("(for the baseline telea install faceae[telea])")
    if summary["synthetic"]:
        out.print("The images are synthetic portraits: this shows that all works, not how well faces are restored.")
    out.print(f"\nmodel     {folder.path('model')}")
    out.print(f"report    {folder.path('report', 'index.html')}")
