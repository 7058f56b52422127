"""What a checkpoint holds, which one is loaded, and which ones are deleted."""

import hashlib
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import stepped
from torch import nn

from faceae import storage
from faceae.config import Settings
from faceae.errors import RunFailedError
from faceae.training import checkpoint
from faceae.training.progress import EpochResult, Progress
from faceae.training.state import TrainState

CPU = torch.device("cpu")


def progress(epoch, images=0):
    history = [{"epoch": number, "val": {"mse": 1 / number}} for number in range(1, epoch + 1)]
    return Progress(history, EpochResult(images, 1.5, 0.25, 0.1 + 0.2, 3) if images else EpochResult(), 12.5)


@pytest.fixture
def run(tmp_path):
    """Checkpoints after epoch 1, and at images 64 and 128 of epoch 2; the seeds of their weights are 0, 1 and 2."""
    for seed, (epoch, images) in enumerate([(1, 0), (1, 64), (1, 128)]):
        checkpoint.save(str(tmp_path), stepped(seed).snapshot(), progress(epoch, images))
    return tmp_path


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def load(run):
    state = stepped(99)
    state.steps = 0
    loaded, unusable = checkpoint.load(str(run), state, CPU)
    return loaded, unusable, state


def test_a_run_without_a_checkpoint_starts_from_scratch(tmp_path):
    loaded, unusable, _ = load(tmp_path)
    assert (loaded, unusable) == (Progress(), [])


def test_the_last_checkpoint_is_loaded_and_two_are_kept(run):
    assert names(run) == ["00001-000000064", "00001-000000128"]
    loaded, unusable, state = load(run)
    assert unusable == []
    assert loaded == progress(1, 128)
    expected = stepped(2)
    assert torch.equal(state.network.weight, expected.network.weight)
    assert torch.equal(state.ema.weight, expected.ema.weight)
    assert state.steps == 1
    moments, expected_moments = (each.optimizer.state_dict()["state"][0] for each in (state, expected))
    assert moments["exp_avg"].equal(expected_moments["exp_avg"])


def test_a_checkpoint_after_an_epoch_sorts_after_those_inside_it(run):
    checkpoint.save(str(run), stepped(3).snapshot(), progress(2))
    assert names(run) == ["00001-000000128", "00002"]
    assert load(run)[0].epoch == 2


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda last: flip(last / "model.safetensors"), "model.safetensors does not match what was written"),
        (lambda last: flip(last / "state.pt"), "state.pt does not match what was written"),
        (lambda last: (last / "state.pt").unlink(), "one of its files is missing"),
        (lambda last: (last / "progress.json").unlink(), "it was not written completely"),
        (
            lambda last: (last / "progress.json").write_text('{"history": ['),
            "progress.json does not match what was written",
        ),
    ],
    ids=["weights", "state", "file missing", "half-written", "progress"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(run, damage, words):
    damage(run / "checkpoints" / "00001-000000128")
    loaded, unusable, state = load(run)
    assert loaded == progress(1, 64)
    assert unusable == [f"checkpoint 00001-000000128 cannot be used: {words}"]
    assert torch.equal(state.network.weight, stepped(1).network.weight)
    checkpoint.discard_after(str(run), loaded)
    assert names(run) == ["00001-000000064"]


def test_a_run_does_not_start_over_by_itself_if_no_checkpoint_can_be_used(run):
    for name in names(run):
        flip(run / "checkpoints" / name / "model.safetensors")
    with pytest.raises(
        RunFailedError, match=r"00001-000000128 cannot be used: model\.safetensors.*another --run\.name"
    ):
        load(run)


def test_an_unfinished_first_checkpoint_is_no_obstacle(tmp_path):
    storage.write(f"{tmp_path}/checkpoints/00001/model.safetensors", b"half")
    loaded, unusable, _ = load(tmp_path)
    assert loaded == Progress()
    assert unusable == ["checkpoint 00001 cannot be used: it was not written completely"]


LAST = "00001-000000128"
FILES = ("progress.json", "state.pt", "model.safetensors")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)
JUNK = st.binary() | JSON.map(lambda value: json.dumps(value).encode())


def assert_the_one_before_is_used(run, damaged):
    loaded, unusable, state = load(run)
    if loaded == progress(1, 128):  # such as 1e-05 that became 1E-05
        assert not unusable
        assert not damaged
        return
    assert loaded == progress(1, 64)
    assert len(unusable) == 1
    assert unusable[0].startswith(f"checkpoint {LAST} cannot be used: ")
    assert torch.equal(state.network.weight, stepped(1).network.weight)


def test_a_bit_that_flips_anywhere_in_progress_json_is_noticed(run):
    path = run / "checkpoints" / LAST / "progress.json"
    intact = path.read_bytes()
    for place in range(len(intact)):
        content = bytearray(intact)
        content[place] ^= 1 << place % 8
        path.write_bytes(bytes(content))
        assert_the_one_before_is_used(run, damaged=False)


@pytest.mark.parametrize("key", ["history", "part", "seconds", "sha256"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=JSON)
def test_junk_in_a_field_of_progress_json_is_noticed(run, key, value):
    path = run / "checkpoints" / LAST / "progress.json"
    whole = json.loads((run / "checkpoints" / "00001-000000064" / "progress.json").read_bytes())
    path.write_text(json.dumps({**whole, key: value}))
    assert_the_one_before_is_used(run, damaged=True)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(junk=JUNK, forged=st.booleans())
def test_junk_in_place_of_a_file_is_noticed_also_with_a_matching_digest(run, name, junk, forged):
    folder = run / "checkpoints" / LAST
    if name != "progress.json" and forged:
        checkpoint.save(str(run), stepped(2).snapshot(), progress(1, 128))
        told = json.loads((folder / "progress.json").read_bytes())
        told["sha256"][name] = hashlib.sha256(junk).hexdigest()
        del told["progress_sha256"]
        (folder / "progress.json").write_text(json.dumps(told))
    (folder / name).write_bytes(junk)
    assert_the_one_before_is_used(run, damaged=True)


def test_a_checkpoint_of_another_network_is_not_used(run):
    torch.manual_seed(0)
    other = TrainState(nn.Linear(4, 2), Settings())
    checkpoint.save(str(run), other.snapshot(), progress(1, 192))
    loaded, unusable, state = load(run)
    assert loaded == progress(1, 128)
    assert "it does not fit this run" in unusable[0]
    assert torch.equal(state.network.weight, stepped(2).network.weight)


def test_a_checkpoint_of_a_version_without_a_digest_of_progress_json_is_loaded(run):
    path = run / "checkpoints" / LAST / "progress.json"
    told = json.loads(path.read_bytes())
    del told["progress_sha256"]
    path.write_text(json.dumps(told))
    assert load(run)[0] == progress(1, 128)
    told["history"][0]["epoch"] = 2
    path.write_text(json.dumps(told))
    assert_the_one_before_is_used(run, damaged=True)


def test_other_files_among_the_checkpoints_are_left_alone(run):
    (run / "checkpoints" / "notes.txt").write_text("mine")
    assert load(run)[1] == []
    checkpoint.discard_after(str(run), progress(1, 64))
    assert names(run) == ["00001-000000064", "notes.txt"]
