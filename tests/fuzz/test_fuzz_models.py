"""Saved models: each loads and restores, or is refused in one line."""

import json
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from fuzzing import changed, contract, examples, mutated, trees
from hypothesis import given
from hypothesis import strategies as st
from networks import tiny

import faceae
from faceae import config, models
from faceae.errors import InputError

NETWORK, SETTINGS = tiny(size=16)
WEIGHTS = models.weights(NETWORK)
TREE = json.loads(json.dumps({"settings": config.to_dict(SETTINGS), "epoch": 3}))
CONFIG = json.dumps(TREE).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


def load(folder, content, settings=CONFIG):
    """Loads a model and restores with it: what loads has finite weights, and paints no hole that is not a number."""
    (folder / "model.safetensors").write_bytes(content)
    (folder / "config.json").write_bytes(settings)
    with contract(InputError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = faceae.load(str(folder))
        assert all(value.isfinite().all() for value in model.state_dict().values())
        if model.settings.data.image_size <= 64:
            restored = model(np.full((20, 16, 3), 99, np.uint8), np.eye(20, 16, dtype=bool))
            assert (restored[~np.eye(20, 16, dtype=bool)] == 99).all()


@st.composite
def weights(draw):
    """Files of weights: damaged, most of them in the header; or whole, with other names, types, shapes or values."""
    header = 8 + int.from_bytes(WEIGHTS[:8], "little")
    if draw(st.booleans()):
        return draw(mutated([WEIGHTS[:header]])) + WEIGHTS[header:]
    saved = safetensors.torch.load(WEIGHTS)
    name = draw(st.sampled_from(sorted(saved)))
    value = saved[name]
    number = draw(st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 3e38, -3e38]))
    kind = draw(st.sampled_from(["value", "type", "shape", "more", "less"]))
    if kind == "value":
        value.view(-1)[:1] = number if value.is_floating_point() else 3
    elif kind == "type":
        saved[name] = value.to(draw(st.sampled_from([torch.float64, torch.bfloat16, torch.int8, torch.bool])))
    elif kind == "shape":
        saved[name] = draw(
            st.sampled_from([value.flatten(), value[None], value.new_zeros(0), value.new_zeros(3)])
        ).clone()
    elif kind == "more":
        saved[draw(st.text(max_size=5))] = value.clone()
    else:
        del saved[name]
    return safetensors.torch.save(saved)


@examples(few=100, many=1250)
@given(st.one_of(weights(), mutated([WEIGHTS])))
def test_every_file_of_weights_is_the_models_or_refused(folder, content):
    load(folder, content)


@examples(few=100, many=1250)
@given(st.one_of(mutated([CONFIG]), st.one_of(changed(TREE), trees).map(lambda tree: json.dumps(tree).encode())))
def test_every_config_describes_the_model_or_is_refused(folder, content):
    load(folder, WEIGHTS, content)
