"""What a GPU gives when several trials share it: processes that each train the article's network, without Ray.

Each process has one thread and takes batches from its own memory, so neither a feed nor the CPU's cores set the rate as
long as there is a core for each. With NVIDIA's MPS the processes' kernels run at the same time; without it the GPU
switches between the processes. MPS runs here with a folder of its own and is ended afterwards; the GPU's settings stay.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.multiprocessing as mp

from bench.gpu_case import batch, build, settings, wait
from faceae.training import engine
from faceae.training.state import TrainState

COUNTS = (1, 2, 4, 6)
START_S = 180
"""Seconds that the processes may take to start and to end."""


def measure(device: torch.device, *, small: bool, seconds: float) -> dict[str, Any]:
    """Returns for each number of processes, with and without MPS, what `together` returns."""
    counts = (2,) if small else COUNTS
    found: dict[str, Any] = {"plain": {str(count): together(count, device, small, seconds) for count in counts}}
    with _mps(device) as refusal:
        found["mps"] = {"skipped": refusal} if refusal else {}
        for count in () if refusal else counts:
            found["mps"][str(count)] = together(count, device, small, seconds)
    return found


def together(count: int, device: torch.device, small: bool, seconds: float) -> dict[str, Any]:
    """Trains in several processes at the same time.

    Returns:
        `images_per_second` of all together, and on a GPU `memory_bytes` that each takes, its context included; or
        `skipped`, why there is nothing to return.
    """
    context = mp.get_context("spawn")
    ready, rates = context.Barrier(count), context.Queue()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    arguments = (str(device), small, seconds, free, ready, rates)
    processes = [context.Process(target=_trial, args=arguments, daemon=True) for _ in range(count)]
    try:
        for process in processes:
            process.start()
        each = [_next(rates, processes, START_S + seconds) for _ in processes]
        for process in processes:
            process.join(START_S)
    except RuntimeError as error:
        return {"skipped": str(error)}
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
    found = {"images_per_second": sum(rate for rate, _ in each)}
    return found | ({"memory_bytes": max(taken for _, taken in each) / count} if device.type == "cuda" else {})


def _next(rates: Any, processes: list[Any], seconds: float) -> Any:  # noqa: ANN401
    """Waits for the next result.

    Raises:
        RuntimeError: a process has failed, or the time is up.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            return rates.get(timeout=0.5)
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError("a process failed, see its traceback above") from None
    raise RuntimeError(f"the processes gave no result within {seconds:.0f} s")


def _trial(name: str, small: bool, seconds: float, free: int, ready: Any, rates: Any) -> None:  # noqa: ANN401
    """Trains for some seconds once all processes are ready; puts its images/s and the bytes that all have taken."""
    torch.set_num_threads(1)
    device, preset = torch.device(name), settings("article", small=small)
    network, batches = build(preset, device), [batch(preset)] * engine.CHECK_STEPS["cuda"]
    state, bf16 = TrainState(network, preset), engine.in_bf16("auto", device)
    engine.train_one_epoch(network, batches, state, device=device, bf16=bf16)
    ready.wait(START_S)
    images, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        images += engine.train_one_epoch(network, batches, state, device=device, bf16=bf16).images
    wait(device)
    rate = images / (time.monotonic() - start)
    taken = free - torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    ready.wait(START_S)  # until all have looked at the memory
    rates.put((rate, taken))


@contextmanager
def _mps(device: torch.device) -> Iterator[str | None]:
    """Runs MPS for the processes that start inside; yields None, or why there is none."""
    control = shutil.which("nvidia-cuda-mps-control")
    if device.type != "cuda" or not control:
        yield "needs a GPU" if device.type != "cuda" else "nvidia-cuda-mps-control is not installed"
        return
    with tempfile.TemporaryDirectory(prefix="mps-", dir="/tmp") as folder:  # the path of a socket must be short
        own = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        started = subprocess.run([control, "-d"], env=os.environ | own, capture_output=True, text=True, check=False)
        if started.returncode:
            yield f"{control} -d: {started.stderr.strip() or started.stdout.strip()}"
            return
        os.environ.update(own)  # a process that is spawned inherits it; this one has its context already
        try:
            yield None
        finally:
            for variable in own:
                del os.environ[variable]
            subprocess.run([control], env=os.environ | own, input="quit\n", text=True, timeout=START_S, check=False)
