"""Runs that take seconds, and their results."""

from pathlib import Path

import pytest

from faceae import storage
from faceae.config import Data, Mask, Model, Optim, Run, Scale, Settings, Train

ROOT = Path(__file__).parents[2]


def small(source: Path | str, storage: Path | str, name: str, **changes) -> Settings:
    """Settings of a run that takes seconds; `changes` are fields such as `train__epochs=3`."""
    groups = {
        "data": {"source": (str(source),), "image_size": 32, "val_fraction": 0.2},
        "mask": {"size": 8},
        "model": {"latent_dim": 16},
        "train": {"epochs": 2, "batch_size": 16},
        "run": {"storage": str(storage), "name": name},
    }
    for key, value in changes.items():
        group, field = key.split("__")
        groups.setdefault(group, {})[field] = value
    kinds = {"data": Data, "mask": Mask, "model": Model, "train": Train, "run": Run, "optim": Optim, "scale": Scale}
    return Settings(**{group: kinds[group](**fields) for group, fields in groups.items()})


RECIPE = {
    "model__name": "unet",
    "model__width": 8,
    "optim__schedule": "cosine",
    "optim__warmup": 0.1,
    "optim__average": 0.1,
    "train__loss": "hole",
    "train__augment": "mirror",
    "train__precision": "fp32",
    "train__sharpen": 0.4,
    "train__best_by": "last",
}
"""The settings of the preset `restore-sharp`, for a small network."""


def history(uri):
    return storage.read_lines(f"{uri}/metrics.jsonl")


def figures(uri):
    """The results that must agree between runs: everything but the times."""
    return [(record["epoch"], record["images"], record["train_loss"], record["val"]) for record in history(uri)]


def assert_same(one, other, rel=1e-5):
    assert [row[:2] for row in one] == [row[:2] for row in other]
    for (_, _, loss, val), (_, _, other_loss, other_val) in zip(one, other, strict=True):
        assert loss == pytest.approx(other_loss, rel=rel)
        assert val == pytest.approx(other_val, rel=rel)
