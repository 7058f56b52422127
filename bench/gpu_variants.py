"""Other ways to run the training step of `gpu_step.py`, for what they gain and whether they train the same.

CUDA graphs replay the same kernels without Python: `graph` forward and backward, `whole graph` the optimizer too.
`compile` is torch.compile, which also merges kernels; `reduce-overhead` puts those into CUDA graphs. The loss after
`STEPS` steps says whether a variant trains as the plain step does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.gpu_case import Step, build, milliseconds, stepper
from faceae.config import Settings
from faceae.data.batch import Batch
from faceae.errors import one_line
from faceae.training.state import TrainState
from faceae.training.transfer import to_device

WARM, STEPS = 3, 20
"""Steps before a CUDA graph is recorded, and those after which the losses are compared."""


def measure(preset: Settings, data: Batch, device: torch.device, seconds: float) -> dict[str, Any]:
    """Returns the milliseconds of each variant of the step on the device, and its loss after `STEPS` steps."""
    found: dict[str, Any] = {}
    for name, make in VARIANTS.items():
        if device.type != "cuda" and name not in ON_CPU:
            found[name] = {"skipped": "needs a GPU"}
            continue
        if "compile" in name:
            torch.compiler.reset()
        begun = time.perf_counter()
        try:
            with make(preset, data, device) as step:  # which has taken WARM steps
                loss = [step() for _ in range(STEPS - WARM)][-1].item()
                start_up = time.perf_counter() - begun
                found[name] = {"ms": milliseconds(step, device, seconds), "loss": loss, "start_up_seconds": start_up}
        except Exception as error:  # a variant that this torch or GPU cannot run costs its row, not the others
            found[name] = {"skipped": f"{type(error).__name__}: {one_line(error)}"[:200]}
    return found


@contextmanager
def _eager(
    preset: Settings,
    data: Batch,
    device: torch.device,
    *,
    bf16: bool = True,
    tf32: bool = True,
    benchmark: bool = False,
    compiled: str | None = None,
) -> Iterator[Step]:
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cublas.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32 = cublas.allow_tf32 = tf32
    cudnn.benchmark = benchmark
    try:
        network = build(preset, device).train()
        state = TrainState(network, preset)
        called: Any = torch.compile(network, mode=compiled) if compiled else network
        step = stepper(called, state, to_device(data, device), bf16=bf16)
        for _ in range(WARM):
            step()
        yield step
    finally:
        cudnn.allow_tf32, cublas.allow_tf32, cudnn.benchmark = before


@contextmanager
def _graph(preset: Settings, data: Batch, device: torch.device, *, whole: bool = False) -> Iterator[Step]:
    """Records forward and backward, or with `whole` also the optimizer, as one CUDA graph."""
    network = build(preset, device).train()
    state, there = TrainState(network, preset), to_device(data, device)
    if whole:  # the rate must be a tensor that the graph reads
        rate = torch.tensor(preset.optim.lr, device=device)
        state.optimizer = torch.optim.Adam(network.parameters(), lr=rate, fused=True, capturable=True)

    def passes() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            output = network(there.given, there.mask)
        loss = state.loss(output, there.original, there.mask)
        loss.backward()
        if whole:
            state.optimizer.step()
        return loss.detach()

    def average() -> None:
        state.steps += 1
        if state.ema is not None:
            state._average()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            state.optimizer.zero_grad(set_to_none=True)
            passes()
            if not whole:
                state.optimizer.step()
            average()
    torch.cuda.current_stream().wait_stream(side)
    state.optimizer.zero_grad(set_to_none=True)  # so that the graph writes the gradients instead of adding to them
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = passes()

    def step() -> Tensor:
        graph.replay()
        if not whole:
            state.optimizer.step()
        average()
        return loss

    yield step


def _make(build: Callable[..., Any], **options: Any) -> Callable[..., Any]:  # noqa: ANN401
    return lambda *arguments: build(*arguments, **options)


VARIANTS: dict[str, Callable[..., Any]] = {
    "fp32": _make(_eager, bf16=False, tf32=False),
    "tf32": _make(_eager, bf16=False),
    "bf16": _make(_eager),
    "bf16, cudnn.benchmark": _make(_eager, benchmark=True),
    "bf16, graph": _make(_graph),
    "bf16, whole graph": _make(_graph, whole=True),
    "bf16, compile": _make(_eager, compiled="default"),
    "bf16, compile, reduce-overhead": _make(_eager, compiled="reduce-overhead"),
}
ON_CPU = ("fp32", "bf16")
