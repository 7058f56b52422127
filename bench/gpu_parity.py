"""Whether a device computes what the CPU computes: both networks, losses, optimizers, metrics, bfloat16, a resume.

Every comparison starts from the same numbers on both sides, in float32 with TF32 off. Bounds are derived, not chosen:

- The same formula on the CPU in float64 says how far the CPU's own rounding is off. The device may differ from the CPU
  by `MARGIN` times as much: another algorithm for a convolution (Winograd) rounds a few times as coarsely, TF32 some
  thousand times. Where the CPU is nearly exact by luck, the bound is `FLOOR`.
- After several steps rounding has grown by an unknown factor. A run on the CPU from weights that differ by 2^-20 shows
  that factor; the device may differ by `MARGIN` times as much.
- bfloat16 may change the device's output and gradient by 4 times as much as it changes the CPU's.
- A resumed run may differ from one without a break by as much as two runs without one differ (on a GPU a few gradients
  are added up in no fixed order), times `MARGIN`; where those are equal, it must be equal.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from bench.gpu_case import CPU, NAMES, batch, build, settings
from faceae import metrics
from faceae.config import Optim, Settings
from faceae.data.batch import Batch
from faceae.metrics import full_fp32
from faceae.training import checkpoint, engine
from faceae.training.losses import LOSSES
from faceae.training.optim import build_optimizer
from faceae.training.progress import EpochResult, Progress
from faceae.training.state import TrainState
from faceae.training.transfer import DeviceBatch, to_device

MARGIN, FLOOR, NUDGE = 32.0, 2.0**-18, 2.0**-20
STEPS = 6


class Row(NamedTuple):
    """A comparison.

    Attributes:
        what: what is compared.
        cpu: the CPU's value; of a tensor the root mean square.
        device: the device's.
        difference: ‖device - CPU‖ / ‖CPU‖, unless `what` says otherwise.
        bound: the largest difference that is right; None if the row only informs.
    """

    what: str
    cpu: float
    device: float
    difference: float
    bound: float | None

    @property
    def ok(self) -> bool:
        """Whether the difference is within its bound; NaN is not."""
        return self.bound is None or self.difference <= self.bound


def check(device: torch.device, *, small: bool, perturb: float = 0.0) -> list[Row]:
    """Makes all comparisons.

    Args:
        device: the device to compare with the CPU.
        small: whether to use small networks and batches.
        perturb: relative noise to add to the device's weights, to see the comparison fail.
    """
    rows: list[Row] = []
    for name in NAMES:
        preset = settings(name, small=small)
        network, data = _trained(preset), batch(preset)
        other = _noisy(network, perturb).to(device)
        with full_fp32():
            rows += _network(name, preset, network, other, data)
            rows += _training(name, preset, network, other, data)
        rows += _bf16(name, preset, network, other, data)
        rows.append(_resume(name, preset, other, data))
    data = batch(settings("article", small=small), count=16)
    with full_fp32():
        rows += [*_upload(data, device), *_losses(data, device), *_optimizers(device)]
    return rows + list(_metrics(data, device))


def _trained(preset: Settings) -> nn.Module:
    """Returns a network after a few steps on the CPU: a new one has layers that are zero."""
    network = build(preset, CPU)
    engine.train_one_epoch(network, [batch(preset, first=1000)] * STEPS, TrainState(network, preset), device=CPU)
    return network


def _noisy(network: nn.Module, noise: float) -> nn.Module:
    """Returns a copy whose weights differ by this much, relative to each."""
    made = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in made.parameters():
            each.mul_(1 + noise * torch.randn(each.shape, generator=generator))
    return made


def _size(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())


def _distance(one: Tensor, other: Tensor) -> float:
    one, other = (each.detach().cpu().double() for each in (one, other))
    return float((one - other).norm() / other.norm().clamp_min(1e-300))


def _row(what: str, cpu: Tensor, device: Tensor, exact: Tensor) -> Row:
    """Compares a tensor on both sides; the CPU's distance from its exact value, or from the nudged, gives the bound."""
    return Row(what, _size(cpu), _size(device), _distance(device, cpu), max(FLOOR, MARGIN * _distance(cpu, exact)))


def _flat(tensors: Iterator[Tensor] | list[Tensor]) -> Tensor:
    return torch.cat([each.detach().cpu().double().flatten() for each in tensors])


def _pass(network: nn.Module, data: DeviceBatch, preset: Settings, bf16: bool = False) -> dict[str, Tensor]:
    """Runs the network forward and backward in training mode, and forward in evaluation mode; leaves it as it was."""
    network = copy.deepcopy(network).train()
    with engine.autocast(data.given.device, bf16):
        output = network(data.given, data.mask)
    loss = LOSSES[preset.train.loss](output, data.original, data.mask)
    loss.backward()
    found = {"output": output, "loss": loss, "gradient": _flat([each.grad for each in network.parameters()])}  # type: ignore[misc]
    if statistics := [each for each in network.buffers() if each.is_floating_point()]:
        found["batch norm statistics"] = _flat(statistics)
    with torch.inference_mode(), engine.autocast(data.given.device, bf16):
        found["output in evaluation"] = network.eval()(data.given, data.mask)
    return found


def _network(name: str, preset: Settings, network: nn.Module, other: nn.Module, data: Batch) -> Iterator[Row]:
    on_cpu, device = to_device(data, CPU), next(other.parameters()).device
    there = DeviceBatch(*(each.to(device) for each in on_cpu))  # the same numbers: `_upload` compares the upload
    cpu, found = _pass(network, on_cpu, preset), _pass(other, there, preset)
    torch.set_default_dtype(torch.float64)
    try:
        exact = _pass(copy.deepcopy(network).double(), DeviceBatch(*(each.double() for each in on_cpu)), preset)
    finally:
        torch.set_default_dtype(torch.float32)
    for part, value in cpu.items():
        yield _row(f"{name}: {part}", value, found[part], exact[part])


def _train(network: nn.Module, preset: Settings, data: Batch) -> dict[str, Tensor]:
    """Trains a copy for some steps; returns the losses, how its weights have moved, and the metrics of each image."""
    trained, device = copy.deepcopy(network), next(network.parameters()).device
    state = TrainState(trained, preset)
    losses = [engine.train_one_epoch(trained, [data], state, device=device).loss for _ in range(STEPS)]
    moved = _flat(trained.parameters()) - _flat(network.parameters())
    values = engine.measure(state.best_network.eval(), data, device=device)
    return {
        f"losses of {STEPS} steps": torch.tensor(losses),
        f"movement of the weights in {STEPS} steps": moved,
        **{f"{metric} after {STEPS} steps": values[metric] for metric in ("mse", "hole_mse", "composite_ssim")},
    }


def _training(name: str, preset: Settings, network: nn.Module, other: nn.Module, data: Batch) -> Iterator[Row]:
    cpu, found, nudged = (_train(each, preset, data) for each in (network, other, _noisy(network, NUDGE)))
    for part, value in cpu.items():
        yield _row(f"{name}: {part}", value, found[part], nudged[part])


def _bf16(name: str, preset: Settings, network: nn.Module, other: nn.Module, data: Batch) -> Iterator[Row]:
    changes = []
    for each in (network, other):
        there = to_device(data, next(each.parameters()).device)
        with full_fp32():
            full = _pass(each, there, preset)
        half = _pass(each, there, preset, bf16=True)
        changes.append({part: _distance(half[part], full[part]) for part in full})
    for part in ("output", "gradient", "output in evaluation"):
        cpu, found = (change[part] for change in changes)
        yield Row(f"{name}: {part}, bf16 against fp32", cpu, found, found, 4 * cpu)


def _resume(name: str, preset: Settings, network: nn.Module, data: Batch) -> Row:
    """Compares the weights of a run that was stopped, saved, loaded and continued with those of one that was not."""
    device = next(network.parameters()).device
    bf16 = engine.in_bf16("auto", device)

    def train(pieces: list[int]) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            for number, steps in enumerate(pieces):
                fresh = copy.deepcopy(network)
                state = TrainState(fresh, preset)
                checkpoint.load(folder, state, device)
                engine.train_one_epoch(fresh, [data] * steps, state, device=device, bf16=bf16)
                checkpoint.save(folder, state.snapshot(), Progress(part=EpochResult(images=number + 1)))
        return _flat([each.float() for each in state.best_network.state_dict().values()])

    whole, again, resumed = train([STEPS]), train([STEPS]), train([STEPS // 2, STEPS - STEPS // 2])
    what = f"{name}: weights of a resumed run, device against device"
    return Row(what, _size(whole), _size(resumed), _distance(resumed, whole), MARGIN * _distance(again, whole))


def _upload(data: Batch, device: torch.device) -> Iterator[Row]:
    cpu, found = to_device(data, CPU), to_device(data, device)
    for part, one, other in zip(DeviceBatch._fields, cpu, found, strict=True):
        exact = torch.from_numpy(data.pixels).permute(0, 3, 1, 2).double() / 255
        exact = {"given": exact * (1 - cpu.mask), "original": exact, "mask": cpu.mask.double()}[part]
        yield _row(f"upload: {part}", one, other, exact)


def _losses(data: Batch, device: torch.device) -> Iterator[Row]:
    cpu = to_device(data, CPU)
    shown = (cpu.original + 0.1 * torch.randn(cpu.original.shape, generator=torch.Generator().manual_seed(2))).sigmoid()
    for name, loss in LOSSES.items():
        found = []
        for kind in ({}, {"device": device}, {"dtype": torch.float64}):
            leaf = shown.detach().to(**kind).requires_grad_()
            value = loss(leaf, cpu.original.to(**kind), cpu.mask.to(**kind))
            value.backward()
            assert leaf.grad is not None
            found.append((value, leaf.grad))
        yield _row(f"loss {name}", *(value for value, _ in found))
        yield _row(f"loss {name}: gradient", *(gradient for _, gradient in found))


def _optimizers(device: torch.device) -> Iterator[Row]:
    """Compares how the optimizers move the same weights by the same gradients."""
    for name in ("adam", "sgd", "rmsprop", "muon"):
        moved = []
        for kind in ({}, {"device": device}, {"dtype": torch.float64}):
            generator = torch.Generator().manual_seed(3)
            torch.manual_seed(0)
            network = nn.Sequential(nn.Conv2d(16, 32, 3), nn.Linear(64, 64)).to(**kind)
            before = _flat(network.parameters())
            optimizer = build_optimizer(network, Optim(name=name, lr=0.01))
            for _ in range(STEPS):
                for each in network.parameters():
                    each.grad = torch.randn(each.shape, generator=generator).to(each)
                optimizer.step()
            moved.append(_flat(network.parameters()) - before)
        yield _row(f"optimizer {name}: movement in {STEPS} steps", *moved)


def _metrics(data: Batch, device: torch.device) -> Iterator[Row]:
    cpu = to_device(data, CPU)
    noise = 0.1 * torch.randn(cpu.original.shape, generator=torch.Generator().manual_seed(4))
    inputs = ((cpu.original + noise).clamp(0, 1), cpu.original, cpu.mask)
    there = [each.to(device) for each in inputs]
    values = metrics.per_example(*inputs)
    found = metrics.per_example(*there)
    exact = metrics.per_example(*(each.double() for each in inputs))
    for name, value in values.items():
        yield _row(f"metric {name}", value, found[name], exact[name])
    as_set = _ssim(there)
    with full_fp32():
        full = _ssim(there)
    what = "SSIM on the device in full fp32, and as torch is set; relative to 1 - SSIM"
    yield Row(what, full, as_set, abs(as_set - full) / (1 - full), None)


def _ssim(images: list[Tensor]) -> float:
    return float(structural_similarity_index_measure(images[0], images[1], data_range=1.0))  # type: ignore[arg-type]
