"""Decides where a run trains: how many workers, with how much of a GPU each; waits for the machines if needed."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ray
import yaml
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from faceae import ray_compat
from faceae.cluster.connection import DATA_CPUS
from faceae.config import Scale, Settings
from faceae.console import clock, count, out
from faceae.errors import InputError
from faceae.ray_compat import is_local

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves its configuration on the head node."""

SHARING_A_GPU = 6
"""Trials that share a GPU at most, unless the settings say more: how much memory each will need is not known before."""

SMALL_STEP = 64 * 128 * 128
"""Pixels of a step of the article's network. By the arithmetic of docs/scale.md its kernels take a GPU no more than a
sixth of the time that Python takes to launch them, so that many such trials keep one GPU busy."""

WAIT_SAYS_S = 30
"""Seconds between two messages while machines are awaited."""


@dataclass(frozen=True)
class Placement:
    """The workers that the training runs on.

    Attributes:
        workers: number of training processes of a run.
        gpu: share of a GPU that each of them has; 0 on the CPU.
        max_workers: number of workers that the run may have once the cluster has grown.
        concurrent: number of runs at a time; the trials of a grid share the cluster.
    """

    workers: int
    gpu: float
    max_workers: int
    concurrent: int = 1

    def __str__(self) -> str:
        device = "CPU" if not self.gpu else "GPU" if self.gpu == 1 else f"{self.gpu:g} of a GPU"
        each = " each" if self.workers > 1 and self.gpu else ""
        return f"{count(self.workers, 'training worker')} on {device}{each}"

    @property
    def bundle(self) -> dict[str, float]:
        """The resources of one worker."""
        return {"CPU": 1.0, **({"GPU": self.gpu} if self.gpu else {})}

    def check_shares(self, what: str, images: int) -> None:
        """Raises InputError if there are fewer images than workers to share them."""
        if images < self.max_workers:
            raise InputError(
                f"{what}: {images} images cannot be shared among {self.max_workers} workers; use fewer --scale.workers"
            )

    def workers_per_node(self) -> int:
        """Returns how many training workers, of all runs, share a node."""
        nodes = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
        return math.ceil(self.workers * self.concurrent / max(1, nodes))


def resources() -> Counter[str]:
    """Adds up the CPUs, GPUs and other resources of the nodes that are alive and not about to be taken away."""
    draining = ray_compat.draining_nodes()
    there: Counter[str] = Counter()
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] not in draining:
            there.update(node["Resources"])
    return there


def place(scale: Scale) -> Placement:
    """Decides on workers and GPUs from the settings and the cluster; waits for machines that are still to come.

    Raises:
        InputError: the settings ask for more than there is; on a cluster, for more than came in `scale.wait_minutes`.
    """
    return wait_for(arrange(scale), scale)


def arrange(scale: Scale) -> Placement:
    """Decides the same for the cluster as it is now, however small, without waiting."""
    there = resources()
    gpus, share = int(there["GPU"]), scale.gpus_per_worker or 1.0
    gpu = 0.0 if scale.gpu == "off" or (scale.gpu == "auto" and not gpus and not _gpus_may_come()) else share
    least, most = scale.bounds or ((max(1, gpus),) * 2 if gpu == 1 else (1, 1))
    room = int(gpus / gpu) if gpu else int(there["CPU"]) - DATA_CPUS
    return Placement(max(least, min(most, room)), gpu, most)


def place_trials(scale: Scale, concurrent: int | Literal["auto"], trials: int, sharing: int = 1) -> Placement:
    """Decides how many trials run at a time, each with one worker unless the settings say more.

    At least one CPU is left to Ray Data: the trials wait for Ray Data, which would otherwise wait for them.

    Args:
        scale: the settings that say what a trial gets.
        concurrent: trials to run at a time, or as many as there is room for.
        trials: number of trials.
        sharing: number of trials that may share a GPU, see `trials_sharing_a_gpu`; used if the settings leave open both
            how many run at a time and how much of a GPU each gets.

    Raises:
        InputError: the cluster has no room for the trials, or gets none within `scale.wait_minutes`.
    """
    least, _ = scale.bounds or (1, 1)
    one = place(dataclasses.replace(scale, workers=least))
    there = resources()
    gpus = int(there["GPU"])
    room = max(1, (int(there["CPU"]) - DATA_CPUS) // least)  # one trial needs to leave only one CPU, see `place`
    if one.gpu and least == 1 and concurrent == "auto" and scale.gpus_per_worker is None:
        each = min(sharing, math.ceil(min(room, trials) / gpus))
        one = dataclasses.replace(one, gpu=math.floor(100 / each) / 100)
    if one.gpu:
        room = min(room, gpus * int(1 / one.gpu) // least)
    wanted = max(1, min(room, trials)) if concurrent == "auto" else concurrent
    if wanted > room and is_local():
        raise InputError(
            f"--tune.concurrent {wanted}: the cluster has room for {count(room, 'trial')} at a time, each with "
            f"{one}, next to Ray Data ({count(there['CPU'], 'CPU')}, {count(there['GPU'], 'GPU')})"
        )
    return wait_for(dataclasses.replace(one, concurrent=min(wanted, trials)), scale)


def trials_sharing_a_gpu(trials: Iterable[Settings]) -> int:
    """Returns how many trials may share a GPU: fewer, the more pixels a step of the largest of them has."""
    return max(1, min(SHARING_A_GPU, SHARING_A_GPU * SMALL_STEP // max(_step_pixels(each) for each in trials)))


def _step_pixels(settings: Settings) -> int:
    """Returns the pixels of a step, as many as the article's network would have for the same work.

    The U-Net moves as many bytes for a window of 64x64 in a frame of 128x128 as the article's network for that frame
    (counted by bench/gpu_step.py), and at most in proportion to its width and blocks.
    """
    model, pixels = settings.model, settings.data.image_size**2
    if model.name == "unet":
        pixels = max(pixels, (2 * model.window) ** 2 * model.width // 32 * model.blocks)
    return settings.train.batch_size * pixels


def wait_for(placement: Placement, scale: Scale, groups: int | None = None) -> Placement:
    """Waits until the cluster has the resources of a placement.

    Args:
        placement: the wanted placement.
        scale: the settings that it was made from.
        groups: number of worker groups to start, if others of the placement are already running.

    Returns:
        The placement; for an elastic run, one that fits the cluster as it is by then.

    Raises:
        InputError: the resources did not come within `scale.wait_minutes`.
    """
    least, most = scale.bounds or (1, 1)
    elastic = least < most
    if elastic:
        placement = arrange(scale)
    if lack := _lack(placement):
        if is_local() or not _wait(placement, groups or placement.concurrent, scale.wait_minutes):
            raise InputError(lack)
        if elastic:
            placement = arrange(scale)
    return placement


def _wait(placement: Placement, groups: int, minutes: float) -> bool:
    """Requests the resources of some worker groups; returns whether they came in time."""
    # A placement group tells an autoscaler what to start, and ends with this process. The last CPU is for Ray Data.
    group = placement_group([placement.bundle] * placement.workers * groups + [{"CPU": 1}], strategy="PACK")
    start, said = time.monotonic(), -math.inf
    try:
        while (left := start + 60 * minutes - time.monotonic()) > 0:
            if time.monotonic() - said > WAIT_SAYS_S:
                said = time.monotonic()
                lack = _lack(placement) or "the existing ones are in use"
                out.print(f"waiting   for machines, {clock(left)} more (--scale.wait-minutes): {lack}")
            if group.wait(1):
                return True
        return False
    finally:
        remove_placement_group(group)


def _lack(placement: Placement) -> str | None:
    """Describes what the cluster lacks for a placement, in the words of an error; None if it lacks nothing."""
    there, workers = resources(), placement.workers * placement.concurrent
    what = f"--scale.workers {placement.workers}"
    if placement.concurrent > 1:
        what = f"--tune.concurrent {placement.concurrent} trials of {what}"
    if workers * placement.gpu > there["GPU"]:
        if not there["GPU"]:
            return "--scale.gpu on: there is no GPU; use --scale.gpu off, or set RAY_ADDRESS to a cluster"
        each = "a GPU" if placement.gpu == 1 else f"{placement.gpu:g} of a GPU"
        return (
            f"{what}: each worker needs {each} and there are {there['GPU']:g}; use fewer workers, --scale.gpu off, or "
            "set RAY_ADDRESS to a larger cluster"
        )
    if workers >= there["CPU"]:
        return (
            f"{what}: each takes a CPU, Ray Data needs another, and the cluster has {there['CPU']:g}; use fewer "
            "workers or a larger cluster"
        )
    return None


def driver_node() -> NodeAffinitySchedulingStrategy:
    """Returns the strategy that puts an actor on the driver's node, so that the actor ends with that node."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _gpus_may_come() -> bool:
    """Whether an autoscaler can start nodes with GPUs, by its own report to Ray or by the configuration of `ray up`."""
    if is_local():
        return False
    told = ray_compat.autoscaler_max_resources()
    config = yaml.safe_load(BOOTSTRAP.expanduser().read_text()) if BOOTSTRAP.expanduser().exists() else {}
    kinds = config.get("available_node_types", {}).values()
    return bool(told.get("GPU")) or any(kind.get("resources", {}).get("GPU") for kind in kinds)
