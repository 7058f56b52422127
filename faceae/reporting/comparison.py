"""What the terminal says of a model beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faceae.config.presets import OF_TASK
from faceae.console import out
from faceae.evaluation.baselines import PACKAGES, lacking


def print_comparison(summary: Mapping[str, Any]) -> None:
    """Prints the model's share of the best baseline's error, and how to get the baselines that are missing."""
    ours = "the pictures have" if "known_pixels" in summary else "the model has"
    line = f"best baseline: {summary['best_baseline']}; {ours} {summary['of_best']:.2f} of its error"
    task = summary["task"]
    line += " in the hole" if task == "inpaint" else ""
    if (compared := summary["compared"])["images"] < compared["of"]:
        line += f" (on a sample of {compared['images']})"
    out.print(line)
    if summary["of_best"] >= 1 and "known_pixels" not in summary:
        advice = f"; --preset {OF_TASK[task]} takes 20 minutes" if task in OF_TASK else ""
        out.print(f"That is no better than what needs no training. Train for longer{advice}.")
    if missing := lacking(task, summary["baselines"]):
        packages = " ".join(dict.fromkeys(PACKAGES[name][1] for name in missing))
        out.print(f"left out: {', '.join(missing)}; pip install {packages}")
    if task == "inpaint" and "pca" not in summary["baselines"] and "known_pixels" not in summary:
        out.print("left out: pca; the model has no pca.safetensors beside it, which training leaves there")


def print_caveats(summary: Mapping[str, Any]) -> None:
    """Prints what a reader of the result table of a run has to know."""
    print_comparison(summary)
    if "bits_per_value" in summary:
        out.print(
            f"divergence: {summary['val']['kl_nats']:.1f} nats an image; with the error at most "
            f"{summary['bits_per_value']:.2f} bits for a value of 8 bits"
        )
    if summary["synthetic"]:
        out.print(
            "The images are synthetic portraits: they show that the system works, not how well faces are restored."
        )
