"""What a training step costs on a device, against what its arithmetic and its memory traffic would take alone.

- `from host batches`: `engine.train_one_epoch`, uploads included. `on the device`: the same step on a batch that lies
  there already: the bound of any feed.
- `host`: the same step on two images: as many kernels, and hardly any work in them. What the step cannot be faster than
  as long as Python issues its kernels one by one.
- Peaks are measured here, not read off a data sheet: a large matrix product in bfloat16, a large copy.
- Arithmetic is counted by torch's FlopCounterMode. Traffic counts what each operator reads and writes, as if nothing
  stayed in a cache: less is moved where neighbours share the cache, more where a kernel needs scratch memory.
- `gpu_variants.py` has other ways to run the same step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench import gpu_variants
from bench.gpu_case import NAMES, Step, batch, build, milliseconds, settings, stepper, wait
from faceae.config import Settings
from faceae.data.batch import Batch
from faceae.training import engine
from faceae.training.state import TrainState
from faceae.training.transfer import ResidentImages, to_device

_OF_THE_PROFILER = ("Activity Buffer Request", "Lazy Function Loading", "Instrumentation", "Buffer Flush")


def measure(device: torch.device, *, small: bool, seconds: float) -> dict[str, Any]:
    """Measures the peaks and the steps of both presets; each figure takes about so many seconds."""
    found: dict[str, Any] = {"peaks": peaks(device, small)}
    for name in NAMES:
        found[name] = _preset(settings(name, small=small), device, found["peaks"], seconds)
    return found


def peaks(device: torch.device, small: bool) -> dict[str, float]:
    """Measures what the device can do: bf16 FLOP/s, and bytes/s of a copy, counting those read and those written."""
    side, length = (256, 2**22) if small else (8192, 2**30)
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randint(256, (length,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    product = milliseconds(lambda: torch.mm(one, other), device, 0.5)
    copy = milliseconds(lambda: target.copy_(source), device, 0.5)
    return {"flops_per_second": 2 * side**3 / product * 1e3, "bytes_per_second": 2 * length / copy * 1e3}


def _resident(data: Batch, device: torch.device) -> Callable[[], object]:
    """Returns a function that brings a batch to the device whose images it keeps."""
    images, side = data.pixels.shape[:2]
    resident = ResidentImages(images, side, device)
    numbered = data._replace(numbers=np.arange(images))
    to_device(numbered, device, resident)
    masks_only = numbered._replace(pixels=data.pixels[:0])
    return lambda: to_device(masks_only, device, resident)


def _preset(preset: Settings, device: torch.device, peak: dict[str, float], seconds: float) -> dict[str, Any]:
    bf16, data = engine.in_bf16("auto", device), batch(preset)
    plain = _plain(preset, data, device, bf16)
    found: dict[str, Any] = {"batch": len(data.pixels), "bf16": bf16}
    found["ms"] = {
        "from host batches": _ms_from_host(preset, data, device, bf16, seconds),
        "on the device": milliseconds(plain, device, seconds),
        "host": milliseconds(_plain(preset, batch(preset, 2), device, bf16), device, seconds),
        "upload": milliseconds(lambda: to_device(data, device), device, seconds / 4),
        "resident": milliseconds(_resident(data, device), device, seconds / 4),
        "evaluation": _ms_of_evaluation(preset, data, device, bf16, seconds / 4),
    }
    found["python_ms"] = _phases(preset, device, bf16)
    found |= _kernels(plain, device) | _work(_plain(preset, data, device, bf16))
    ms = found["ms"]["on the device"]
    found["share_of_arithmetic"] = found["flops"] / peak["flops_per_second"] * 1e3 / ms
    found["share_of_bandwidth"] = found["bytes"] / peak["bytes_per_second"] * 1e3 / ms
    found["variants"] = gpu_variants.measure(preset, data, device, seconds)
    return found


def _plain(preset: Settings, data: Batch, device: torch.device, bf16: bool) -> Step:
    network = build(preset, device).train()
    return stepper(network, TrainState(network, preset), to_device(data, device), bf16=bf16)


def _ms_from_host(preset: Settings, data: Batch, device: torch.device, bf16: bool, seconds: float) -> float:
    network, batches = build(preset, device), [data] * engine.CHECK_STEPS["cuda"]
    state = TrainState(network, preset)
    return milliseconds(
        lambda: engine.train_one_epoch(network, batches, state, device=device, bf16=bf16), device, seconds
    ) / len(batches)


def _ms_of_evaluation(preset: Settings, data: Batch, device: torch.device, bf16: bool, seconds: float) -> float:
    network = build(preset, device)
    return milliseconds(lambda: engine.evaluate(network, [data] * 4, device=device, bf16=bf16), device, seconds) / 4


def _phases(preset: Settings, device: torch.device, bf16: bool) -> dict[str, float]:
    """Returns the milliseconds that Python takes for each part of a step, on two images; medians of 30 steps."""
    network, host = build(preset, device).train(), batch(preset, 2)
    state = TrainState(network, preset)
    times: dict[str, list[float]] = {}
    for _ in range(30):
        wait(device)
        start = time.perf_counter()

        def passed(name: str) -> None:
            nonlocal start
            now = time.perf_counter()
            times.setdefault(name, []).append((now - start) * 1e3)
            start = now

        data = to_device(host, device)
        passed("upload")
        with engine.autocast(device, bf16):
            output = network(data.given, data.mask)
        passed("forward")
        loss = state.loss(output, data.original, data.mask)
        passed("loss")
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        passed("backward")
        state.optimizer.step()
        passed("optimizer")
        state.steps += 1
        if state.ema is not None:
            state._average()
            passed("average")
    return {name: statistics.median(each) for name, each in times.items()}


def _kernels(step: Step, device: torch.device) -> dict[str, float]:
    """Counts the kernels of a step, copies included, and adds up their milliseconds; on a CPU, the operators."""
    many, on_gpu = 5, device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiled:
        for _ in range(many):
            step()
        wait(device)
    events = list(profiled.events() or [])
    if not on_gpu:
        return {"operators": sum(each.name.startswith("aten::") and not each.cpu_children for each in events) / many}
    kernels = [
        each
        for each in events
        if each.device_type.name == "CUDA"
        and not getattr(each, "is_user_annotation", False)  # such as Optimizer.step#Adam.step, around its kernels
        and each.name not in _OF_THE_PROFILER
    ]
    busy = sum(each.time_range.elapsed_us() for each in kernels) / 1e3
    return {"kernels": len(kernels) / many, "kernels_ms": busy / many}


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of the tensors that operators read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        view = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        if not view and "empty" not in func.name():
            moved = [each for each in tree_leaves((args, kwargs, result)) if isinstance(each, Tensor)]
            self.bytes += sum(each.numel() * each.element_size() for each in moved)
        return result


def _work(step: Step) -> dict[str, float]:
    step()  # the first one makes the optimizer's state
    with FlopCounterMode(display=False) as counter, _Traffic() as traffic:
        step()
    return {"flops": float(counter.get_total_flops()), "bytes": float(traffic.bytes)}
