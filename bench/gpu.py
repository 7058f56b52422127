"""Measures everything that only a machine with a GPU can show, in one call, on one GPU.

    python -m bench.gpu                        # all parts, into bench/gpu.json
    python -m bench.gpu --only parity steps    # some; the file keeps the other parts of the same machine
    python -m bench.gpu --device cpu           # small, to see that it works: no figure of it means anything

- `parity` (gpu_parity.py): both networks, losses, optimizers and metrics give what they give on the CPU, bfloat16 what
  float32 gives, a resumed run what a whole one gives. Exit code 1 if not.
- `steps` (gpu_step.py): milliseconds, kernels, arithmetic and traffic of a training step; CUDA graphs, torch.compile.
- `trials` (gpu_trials.py): several processes on one GPU, with and without MPS.
- `feed`: how fast Ray Data hands batches to a training worker with nothing else running. Skipped where Ray is not
  installed. A whole grid with Ray is measured by `python -m bench --only grid`.

Needs no Ray, no command line of faceae and no Python of a certain version, but
`pip install torch numpy pillow pyarrow safetensors pydantic tenacity torchmetrics rich`. For a machine that has all but
two of them and cannot reach a registry, `pip install --target .deps --python-version 3.12 --only-binary=:all: pydantic
tenacity` makes a folder to carry there (PYTHONPATH=.deps).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from bench import gpu_parity, gpu_step, gpu_trials
from bench.machine import describe
from faceae.console import out
from faceae.errors import one_line

RESULTS = Path(__file__).with_name("gpu.json")
PARTS = ("parity", "steps", "trials", "feed")


def main(arguments: list[str] | None = None) -> int:
    """Measures the chosen parts; returns 1 if a comparison or a part has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cuda", "cpu"), default=found, help=f"the device to measure ({found})")
    parser.add_argument("--small", action="store_true", help="small networks and batches; always so on a CPU")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (all)")
    parser.add_argument("--seconds", type=float, default=1.5, help="time of each figure (1.5)")
    parser.add_argument("--output", type=Path, help="file to write (bench/gpu.json; on a CPU none)")
    parser.add_argument("--perturb", type=float, default=0.0, help="noise on the device's weights: parity must fail")
    given = parser.parse_args(arguments)
    device, small = torch.device(given.device), given.small or given.device == "cpu"
    if device.type == "cpu":
        out.print("note      no GPU is measured: this only shows that the program works, at small size")
        torch.set_num_threads(1)
    output = given.output or (RESULTS if device.type == "cuda" else None)
    header = {"machine": describe(), "device": device.type, "small": small, "torch": torch.__version__}
    content = _earlier(output, header)
    measure: dict[str, Callable[[], Any]] = {
        "parity": lambda: parity(device, small, given.perturb),
        "steps": lambda: gpu_step.measure(device, small=small, seconds=given.seconds),
        "trials": lambda: gpu_trials.measure(device, small=small, seconds=2 * given.seconds),
        "feed": lambda: feed(small),
    }
    show: dict[str, Callable[[Any], None]] = {
        "parity": show_parity,
        "steps": show_steps,
        "trials": show_trials,
        "feed": show_feed,
    }
    failed = False
    for part in PARTS:
        if part not in given.only:
            continue
        try:
            content[part] = measure[part]()
            show[part](content[part])
        except Exception as error:  # the machine is lent for minutes: the other parts are measured all the same
            traceback.print_exc()
            content[part] = {"failed": one_line(error)}
            failed = True
        if output:
            output.write_text(json.dumps(content, indent=2) + "\n")
    if "parity" in given.only and isinstance(content["parity"], list):
        failed |= not all(row["ok"] for row in content["parity"])
    out.print(f"\nwritten to {output}" if output else "")
    return int(failed)


def _earlier(output: Path | None, header: dict[str, Any]) -> dict[str, Any]:
    """Returns the parts that were measured on the same machine before."""
    old = json.loads(output.read_text()) if output and output.exists() else {}
    return old if all(old.get(name) == value for name, value in header.items()) else dict(header)


def parity(device: torch.device, small: bool, perturb: float) -> list[dict[str, Any]]:
    """Returns the rows of gpu_parity.py as the file holds them."""
    rows = gpu_parity.check(device, small=small, perturb=perturb)
    return [{**row._asdict(), "ok": row.ok} for row in rows]


def feed(small: bool) -> dict[str, Any]:
    """Measures the loader alone, on portraits that are drawn and then stay in the object store."""
    if importlib.util.find_spec("ray") is None:
        return {"skipped": "Ray is not installed"}
    from bench import ingest  # imports Ray
    from faceae.cluster import connection

    connection.connect(1)
    images = 128 if small else 8192
    return {"images": images, "later_epochs_images_per_second": ingest.faceae(f"synthetic:{images}").later}


def show_parity(rows: list[dict[str, Any]]) -> None:
    """Prints the comparisons."""
    table = _table("parity", "what", "CPU", "device", "difference", "bound", "")
    for row in rows:
        bound = "" if row["bound"] is None else f"{row['bound']:.1e}"
        ok = "" if row["bound"] is None else "ok" if row["ok"] else "FAILED"
        table.add_row(row["what"], f"{row['cpu']:.6g}", f"{row['device']:.6g}", f"{row['difference']:.1e}", bound, ok)
    out.print(table)


def show_steps(found: dict[str, Any]) -> None:
    """Prints the steps of both presets, figure by figure."""
    presets = {name: each for name, each in found.items() if name != "peaks"}
    table = _table("a training step", "figure", *presets)
    rows: dict[str, list[str]] = {}
    for each in presets.values():
        for what, text in _figures(each):
            rows.setdefault(what, []).append(text)
    for what, texts in rows.items():
        table.add_row(what, *texts)
    peak = found["peaks"]
    out.print(table)
    out.print(f"peaks: {peak['flops_per_second'] / 1e12:.3g} TFLOP/s bf16, {peak['bytes_per_second'] / 1e9:.4g} GB/s")


def _figures(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield "images", str(found["batch"])
    yield from ((f"{name}, ms", f"{ms:.3f}") for name, ms in found["ms"].items())
    parts = " + ".join(f"{name} {ms:.2f}" for name, ms in found["python_ms"].items())
    yield "Python, ms", parts
    for name in ("kernels", "kernels_ms", "operators"):
        if name in found:
            yield name.replace("_", ", "), f"{found[name]:.4g}"
    yield "arithmetic", f"{found['flops'] / 1e9:.3g} GFLOP, {found['share_of_arithmetic']:.1%} of the peak"
    yield "traffic", f"{found['bytes'] / 1e9:.3g} GB, {found['share_of_bandwidth']:.1%} of the peak"
    for name, each in found["variants"].items():
        yield name, each.get("skipped") or f"{each['ms']:.3f} ms, loss {each['loss']:.5f}"


def show_trials(found: dict[str, Any]) -> None:
    """Prints the images/s of several processes, and as a multiple of one."""
    table = _table("trials on one GPU", "processes", "images/s", "of one", "MB each")
    one = found["plain"].get("1", {}).get("images_per_second")
    for kind, counts in found.items():
        for count, each in counts.items():
            rate = each.get("images_per_second") if isinstance(each, dict) else None
            if rate is None:
                table.add_row(f"{kind} {count}", str(each["skipped"] if isinstance(each, dict) else each), "", "")
            else:
                memory = f"{each['memory_bytes'] / 1e6:.0f}" if "memory_bytes" in each else ""
                table.add_row(f"{kind} {count}", f"{rate:,.0f}", f"{rate / one:.2f}x" if one else "", memory)
    out.print(table)


def show_feed(found: dict[str, Any]) -> None:
    """Prints the loader's rate."""
    rate = found.get("later_epochs_images_per_second")
    out.print(f"\nfeed      {found['skipped'] if rate is None else f'{rate:,.0f} images/s'}")


def _table(title: str, *headings: str) -> Table:
    table = Table(title=f"\n{title}", box=None, pad_edge=False, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


if __name__ == "__main__":
    sys.exit(main())
