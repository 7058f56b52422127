"""Measures the data path, training and the grid together with what bounds them, and compares them as ratios.

    python -m bench                    # on drawn portraits: about 17 minutes on two cores
    python -m bench --source FOLDER    # on your own images, PNG or JPEG
    python -m bench --only ingest      # one part

The variants of a part take turns, --repeats times, so that a machine that slows down slows all of them. Prints a table
with median and spread, and writes bench/results.json. The file that measures a part says what its variants can and
cannot show: ingest.py and peers.py, training.py, grid.py. A peer that is not installed is left out, with a line that
says how to install it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import ray
from PIL import Image
from rich.table import Table
from seaweed import Seaweed

from bench import grid, ingest, peers, training
from bench.machine import describe
from bench.settings import SIZE
from faceae import config, storage
from faceae.cluster import connection
from faceae.config import jobs as job_settings
from faceae.console import count, out
from faceae.data.synthetic import portrait
from faceae.drivers.prepare import prepare

RESULTS = Path(__file__).with_name("results.json")
PARTS = ("ingest", "training", "grid")
GRID_IMAGES = 512
Values = dict[str, list[float]]

GOALS = {
    "ingest_later_vs_dataloader": (">=", 4),
    "ingest_first_vs_dataloader": (">=", 1.1),
    "ingest_first_vs_litdata": (">=", 1),
    "ingest_later_vs_best_peer": (">=", 2),
    "ingest_later_vs_in_process": (">=", 0.5),
    "ingest_cpu_us_per_image": ("<=", 20),
    "ingest_first_s3_parquet_vs_folder": (">=", 0.8),
    "ingest_first_s3_tar_vs_folder": (">=", 0.8),
    "train_vs_in_memory": (">=", 0.97),
    "data_wait_fraction": ("<=", 0.02),
    "seconds_to_first_step": ("<=", 15),
    "bytes_per_cached_image": ("<=", 1.1 * 49_152),
    "grid_decodes_per_image": ("<=", 1),
}


def main() -> None:
    """Measures the chosen parts, prints the results and writes them to bench/results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of images; by default portraits are drawn")
    parser.add_argument("--images", type=int, default=4096, help="number of portraits to draw (4096)")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each variant; the grid runs once (3)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (all)")
    arguments = parser.parse_args()
    values: Values = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source or draw(Path(folder) / "png", arguments.images)
        what = str(arguments.source or f"{arguments.images} drawn portraits, 128x128 PNG")
        if "ingest" in arguments.only:
            measure_ingest(source, Path(folder), arguments.repeats, values)
        if "training" in arguments.only:
            measure_training(source, arguments.repeats, values)
        if "grid" in arguments.only:
            measure_grid(Path(folder) / "grid", values)
    report(values, what)


def draw(folder: Path, images: int) -> Path:
    """Draws portraits as PNG files; returns their folder."""
    folder.mkdir()
    for number in range(images):
        Image.fromarray(portrait(number, SIZE)).save(folder / f"{number:05}.png")
    return folder


def measure_ingest(source: Path, scratch: Path, repeats: int, values: Values) -> None:
    """Measures every source, the DataLoader, the peers and the bounds."""
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    loader = ingest.dataloader(paths)
    next(loader)
    formats = _convert(paths, scratch, values)
    with _stored(source, paths, scratch) as sources:
        connection.connect(1)
        for kind in sources.values():
            ingest.faceae(kind)  # warms up: starts Ray's worker processes
        for turn in range(repeats):
            out.print(f"ingest    {turn + 1} of {repeats}")
            for name, uri in sources.items():
                measured = ingest.faceae(uri)
                values[f"ingest {name}: first epoch, images/s"].append(measured.first)
                values[f"ingest {name}: later epochs, images/s"].append(measured.later)
                values[f"ingest {name}: later epochs, processor us an image"].append(measured.cpu * 1e6)
                values["bytes in the object store for each image"].append(measured.cached)
            values["ingest PNG: DataLoader, images/s"].append(next(loader))
            _measure_peers(formats, values)
            values["ingest PNG: decode bound, images/s"].append(ingest.decode_bound(paths))
            values["ingest: copy bound, images/s"].append(ingest.copy_bound(len(paths)))
            bound = ingest.in_process_bound(len(paths))
            values["ingest: in one process, images/s"].append(bound.rate)
            values["ingest: in one process, processor us an image"].append(bound.cpu * 1e6)
    for name, folder in formats.items():
        cost = peers.kill(name, folder, len(paths))
        values[f"peer {name}: images repeated after a kill in mid-epoch"].append(cost.repeated)
        values[f"peer {name}: images lost after a kill in mid-epoch"].append(cost.lost)
    loader.close()
    ray.shutdown()


def _convert(paths: list[Path], scratch: Path, values: Values) -> dict[str, Path]:
    """Writes the images in the format of every peer that is installed; returns their folders."""
    folders = {name: scratch / name.replace(" ", "-") for name in peers.available()}
    for name, folder in folders.items():
        out.print(f"ingest    converting for {name}")
        values[f"peer {name}: seconds to convert"].append(peers.convert(name, paths, folder))
    return folders


def _measure_peers(folders: dict[str, Path], values: Values) -> None:
    """Measures every peer once."""
    for name, folder in folders.items():
        measured = peers.measure(name, folder)
        values[f"peer {name}: first epoch, images/s"].append(measured.first)
        values[f"peer {name}: later epochs, images/s"].append(measured.later)
        values[f"peer {name}: later epochs, processor us an image"].append(measured.cpu * 1e6)
        values[f"peer {name}: memory, MB"].append(measured.memory / 1e6)


@contextlib.contextmanager
def _stored(source: Path, paths: list[Path], scratch: Path) -> Iterator[dict[str, str]]:
    """Yields the same images as a folder and as prepared Parquet, and in a bucket: files, Parquet and a tar."""
    settings = job_settings.PrepareSettings(
        data=config.Source(source=(str(source),)), run=config.Output(name="parquet", storage=str(scratch))
    )
    (scratch / "s3").mkdir()
    with Seaweed(scratch / "s3") as server:
        os.environ.update(server.environment)  # before Ray starts: its workers read the bucket
        server.make_bucket("faces")
        prepare(settings)
        for path in paths:
            storage.write(f"s3://faces/png/{path.name}", path.read_bytes())
        for name in storage.list_files(parquet := str(scratch / "parquet")):
            storage.write(f"s3://faces/parquet/{name}", storage.read(f"{parquet}/{name}"))
        with tarfile.open(scratch / "faces.tar", "w") as archive:
            archive.add(source, ".")
        storage.write("s3://faces/faces.tar", (scratch / "faces.tar").read_bytes())
        in_bucket = {"S3": "png", "S3 Parquet": "parquet", "S3 tar": "faces.tar"}
        yield {"PNG": str(source), "Parquet": parquet} | {n: f"s3://faces/{key}" for n, key in in_bucket.items()}


def measure_training(source: Path, repeats: int, values: Values) -> None:
    """Measures the job and the step on batches in memory, with one worker and with two."""
    for turn in range(repeats):
        for workers in (1, 2):
            out.print(f"training  {turn + 1} of {repeats}, {count(workers, 'worker')}")
            name = f"training, {count(workers, 'worker')}"
            values[f"{name}: in memory, images/s"].append(training.in_memory(workers))
            job = training.job(str(source), workers)
            values[f"{name}: job, images/s"].append(job.rate)
            values[f"{name}: share of time waiting for data"].append(job.wait)
            values[f"{name}: seconds to the first step"].append(job.first_step)
            values[f"{name}: a worker's memory, MB"].append(job.worker_bytes / 1e6)
            for process, share in job.cores.items():
                if share >= 0.001:
                    values[f"{name}: share of the cores, {process}"].append(share)


def measure_grid(folder: Path, values: Values) -> None:
    """Measures the grid and the same settings as single runs."""
    out.print(f"grid      six settings, {grid.EPOCHS} epochs on {GRID_IMAGES} portraits, as a grid and one by one")
    draw(folder, GRID_IMAGES)
    for name, cost in (("six settings as a grid", grid.together(folder)), ("one by one", grid.one_by_one(folder))):
        values[f"{name}: seconds"].append(cost.seconds)
        values[f"{name}: decodes an image"].append(cost.decodes)


def ratios(middle: dict[str, float]) -> dict[str, float]:
    """Returns the figures that the goals refer to, from medians; those of parts that were not measured are left out."""
    best = max(
        (name for name in middle if name.startswith("peer ") and name.endswith(": later epochs, images/s")),
        key=middle.__getitem__,
        default="no peer",
    )
    formulas = {
        "ingest_first_vs_dataloader": ("ingest PNG: first epoch, images/s", "ingest PNG: DataLoader, images/s"),
        "ingest_later_vs_dataloader": ("ingest PNG: later epochs, images/s", "ingest PNG: DataLoader, images/s"),
        "ingest_first_vs_litdata": ("ingest PNG: first epoch, images/s", "peer litdata PNG: first epoch, images/s"),
        "ingest_later_vs_best_peer": ("ingest PNG: later epochs, images/s", best),
        "ingest_later_vs_in_process": ("ingest PNG: later epochs, images/s", "ingest: in one process, images/s"),
        "ingest_cpu_us_per_image": ("ingest PNG: later epochs, processor us an image",),
        "ingest_first_s3_parquet_vs_folder": (
            "ingest S3 Parquet: first epoch, images/s",
            "ingest PNG: first epoch, images/s",
        ),
        "ingest_first_s3_tar_vs_folder": ("ingest S3 tar: first epoch, images/s", "ingest PNG: first epoch, images/s"),
        "train_vs_in_memory": ("training, 1 worker: job, images/s", "training, 1 worker: in memory, images/s"),
        "train_vs_in_memory_2_workers": (
            "training, 2 workers: job, images/s",
            "training, 2 workers: in memory, images/s",
        ),
        "data_wait_fraction": ("training, 1 worker: share of time waiting for data",),
        "seconds_to_first_step": ("training, 1 worker: seconds to the first step",),
        "bytes_per_cached_image": ("bytes in the object store for each image",),
        "grid_decodes_per_image": ("six settings as a grid: decodes an image",),
        "grid_vs_single_runs": ("one by one: seconds", "six settings as a grid: seconds"),
    }
    return {
        name: middle[over[0]] / middle[over[1]] if len(over) == 2 else middle[over[0]]
        for name, over in formulas.items()
        if all(part in middle for part in over)
    }


def report(values: Values, what: str) -> None:
    """Prints the tables and writes the file; results of other parts on the same machine and source stay in it."""
    middle = {name: statistics.median(each) for name, each in values.items()}
    machine = describe()
    table = Table(title=f"{what}; {machine}", box=None, pad_edge=False, title_justify="left")
    for heading in ("measured", "median", "lowest", "highest"):
        table.add_column(heading, justify="left" if heading == "measured" else "right")
    for name, each in values.items():
        table.add_row(name, *(_figure(value) for value in (middle[name], min(each), max(each))))
    goals = Table(box=None, pad_edge=False)
    for heading in ("figure", "here", "goal"):
        goals.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, value in ratios(middle).items():
        sign, goal = GOALS.get(name, ("", None))
        goals.add_row(name, _figure(value), f"{sign} {_figure(goal)}" if goal else "")
    out.print(table, "", goals)
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept = old if (old.get("machine"), old.get("source")) == (machine, what) else {}
    content = {**kept, "machine": machine, "source": what, **ratios(middle)}
    content["values"] = kept.get("values", {}) | values
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    out.print(f"\nwritten to {RESULTS}")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
