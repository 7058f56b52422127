"""What the terminal says of a model beside the baselines."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from faceae import config
from faceae.config import Settings, Train, presets
from faceae.console import out
from faceae.evaluation.baselines import PACKAGES, lacking

_SHARP_STEPS = 4500
"""Steps that a run with --train.sharpen needs: after 4,700 fills were sharp, after 2,100 they had casts of colour."""


def extended(train: Train, times: float) -> Train:
    """Returns the settings of a training that takes so many times as long, in epochs and in minutes."""
    minutes = train.max_minutes and times * train.max_minutes
    return dataclasses.replace(train, epochs=math.ceil(times * train.epochs), max_minutes=minutes)


def longer(settings: Settings) -> str:
    """Returns a command that trains for longer on the same images; after a quick preset by that of the task."""
    thorough = presets.PRESETS[settings.preset].train.max_minutes
    of_task = settings.preset if thorough else presets.OF_TASK.get(settings.task_name, settings.preset)
    preset = presets.find(of_task, Settings)
    run = dataclasses.replace(settings.run, name=f"{settings.run.name}-longer", resume=False)
    kept = {name: getattr(settings, name) for name in ("task", "data", "mask", "noise", "upscale", "scale")}
    better = dataclasses.replace(preset, run=run, **kept)
    if settings.preset == preset.preset:
        train, least = settings.train, preset.train
        times = 2 * max(1, (train.max_minutes or 0) / (least.max_minutes or 1), train.epochs / least.epochs)
        whole = dataclasses.replace(train, epochs=least.epochs, max_minutes=least.max_minutes)
        better = dataclasses.replace(settings, run=run, train=extended(whole, times))
    return config.command(better, preset)


def print_comparison(summary: Mapping[str, Any], command: str = "") -> None:
    """Prints the model's share of the best baseline's error, and how to get the baselines that are missing.

    Args:
        summary: the content of summary.json.
        command: what trains for longer, if that is known.
    """
    ours = "the pictures have" if "known_pixels" in summary else "the model has"
    line = f"best baseline: {summary['best_baseline']}; {ours} {summary['of_best']:.2f} of its error"
    task = summary["task"]
    line += " in the hole" if task == "inpaint" else ""
    if (compared := summary["compared"])["images"] < compared["of"]:
        line += f" (on a sample of {compared['images']})"
    out.print(line)
    if summary["of_best"] >= 1 and "known_pixels" not in summary:
        out.print(
            "That is no better than what needs no training. Train for longer" + (f":\n{command}" if command else ".")
        )
    if missing := lacking(task, summary["baselines"]):
        packages = " ".join(dict.fromkeys(PACKAGES[name][1] for name in missing))
        out.print(f"left out: {', '.join(missing)}; pip install {packages}")
    if task == "inpaint" and "pca" not in summary["baselines"] and "known_pixels" not in summary:
        out.print("left out: pca; the model has no pca.safetensors beside it, which training leaves there")


def print_sharpness(summary: Mapping[str, Any], train: Train, command: str) -> None:
    """Prints that a run with --train.sharpen was too short, if it was: its error does not show that.

    Args:
        summary: the content of summary.json.
        train: the run's settings.
        command: what trains for longer.
    """
    steps = summary["epochs"] * summary["counts"]["train"] // train.batch_size
    if train.sharpen and steps < _SHARP_STEPS:
        out.print(
            f"--train.sharpen needs about {_SHARP_STEPS} steps; after {steps}, fills may have blocks and casts of "
            f"colour. Train for longer:\n{command}"
        )


def print_caveats(summary: Mapping[str, Any], command: str = "") -> None:
    """Prints what a reader of the result table of a run has to know; `command` trains for longer."""
    print_comparison(summary, command)
    if "bits_per_value" in summary:
        out.print(
            f"divergence: {summary['val']['kl_nats']:.1f} nats an image; with the error at most "
            f"{summary['bits_per_value']:.2f} bits for a value of 8 bits"
        )
    if summary["synthetic"]:
        out.print(
            "The images are synthetic portraits: they show that the system works, not how well faces are restored."
        )
