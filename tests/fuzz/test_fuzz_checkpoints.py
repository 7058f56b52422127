"""Checkpoints: a damaged one is named, and the one before is loaded instead."""

import shutil

import pytest
import torch
from fuzzing import assert_line, contract, examples, mutated
from hypothesis import given
from hypothesis import strategies as st
from networks import stepped

from faceae.training import checkpoint
from faceae.training.progress import EpochResult, Progress

FILES = ["model.safetensors", "state.pt", "progress.json"]


def progress(images):
    return Progress([{"epoch": 1, "val": {"mse": 0.5}}], EpochResult(images, 1.5, 0.25, 0.1, 3), 12.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two checkpoints; the seeds of their weights are 0 and 1."""
    folder = tmp_path_factory.mktemp("run")
    for seed in (0, 1):
        checkpoint.save(str(folder), stepped(seed).snapshot(), progress(64 * (seed + 1)))
    return folder / "checkpoints" / "00001-000000128"


@examples(few=80, many=1000)
@given(st.sampled_from(FILES), st.data())
def test_a_checkpoint_with_a_damaged_file_is_the_last_one_or_none(run, name, data):
    """None means the one before: whatever is loaded is one of those that were written, as it was written."""
    whole = (run / name).read_bytes()
    (run / name).write_bytes(data.draw(mutated([whole])))
    try:
        with contract():
            state = stepped(99)
            loaded, unusable = checkpoint.load(str(run.parents[1]), state, torch.device("cpu"))
    finally:
        (run / name).write_bytes(whole)
    assert loaded == progress(128 - 64 * len(unusable))
    assert torch.equal(state.network.weight, stepped(1 - len(unusable)).network.weight)
    for line in unusable:
        assert line.startswith("checkpoint 00001-000000128 cannot be used: ")
        assert_line(line)


def test_no_checkpoint_is_left_damaged(run, tmp_path):
    """The fuzzer above puts back what it changes, or its next input would not be what it says."""
    shutil.copytree(run.parents[1], tmp_path / "run")
    loaded, unusable = checkpoint.load(str(tmp_path / "run"), stepped(99), torch.device("cpu"))
    assert (loaded, unusable) == (progress(128), [])
