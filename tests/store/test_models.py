"""The networks, and saving and loading a model."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import faceae
from faceae import config, models
from faceae.config import Data, Model, Settings
from faceae.errors import InputError


def settings(size=32, latent=10):
    return Settings(data=Data(image_size=size), model=Model(latent_dim=latent))


@pytest.mark.parametrize("size", [16, 48, 128])
def test_article_keeps_the_shape_and_stays_in_range(size):
    network = models.build(settings(size))
    output = network(torch.rand(2, 3, size, size), torch.zeros(2, 1, size, size))
    assert output.shape == (2, 3, size, size)
    assert output.dtype == torch.float32
    assert 0 <= output.min() <= output.max() <= 1


def test_article_encodes_to_its_latent():
    network = models.build(settings(latent=7))
    assert network.encoder(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def unet(size=64, **options):
    chosen = Settings(data=Data(image_size=size), model=Model(name="unet", latent_dim=8, width=8, **options))
    torch.manual_seed(0)
    return models.build(chosen).eval()


def box(size, top, left, height, width):
    mask = torch.zeros(1, 1, size, size)
    mask[..., top : top + height, left : left + width] = 1
    return mask


@pytest.mark.parametrize("hole", [(50, 40, 28, 28), (0, 100, 28, 28), (3, 3, 1, 1), (0, 0, 128, 64), (20, 20, 90, 5)])
def test_unet_changes_nothing_outside_its_window_and_fills_the_hole(hole):
    given, mask = torch.rand(1, 3, 128, 128), box(128, *hole)
    output = unet(128)(given * (1 - mask), mask)
    changed = (output != given * (1 - mask)).any(1)[0]
    rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
    longest = max(hole[2:])
    side = max(64, min(128, longest + 36))
    assert (rows[-1] - rows[0]).item() < side
    assert (columns[-1] - columns[0]).item() < side
    assert changed[mask[0, 0] > 0].float().mean() > 0.95
    assert 0 <= output.min() <= output.max() <= 1


def test_unet_pastes_its_window_back_where_it_was():
    """With an inner network that returns its input, the known pixels stay where they are."""
    network = unet(128)
    network._unet = lambda window, face: window[:, :3]  # the window is centred on its mean, which is added again
    given = torch.rand(3, 3, 128, 128)
    mask = torch.cat([box(128, 50, 40, 28, 28), box(128, 0, 100, 28, 28), box(128, 99, 1, 9, 28)])
    output = network(given * (1 - mask), mask)
    known = (mask == 0).expand_as(given)
    assert torch.allclose(output[known], given[known], atol=1e-5)


def test_unet_restores_an_image_independently_of_its_batch():
    given = torch.rand(4, 3, 64, 64)
    mask = torch.cat([box(64, 1, 2, 8, 8), box(64, 30, 30, 30, 30), box(64, 5, 50, 9, 9), box(64, 0, 0, 64, 20)])
    network = unet()
    together = network(given, mask)
    for number in range(4):
        alone = network(given[number : number + 1], mask[number : number + 1])
        assert torch.allclose(alone[0], together[number], atol=1e-5)


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_saved_model_loads_and_gives_the_same_output(place, tmp_path, request):
    uri = str(tmp_path / "model")
    if place == "s3":
        request.getfixturevalue("s3")
        uri = "s3://faces/saved/model"
    network = models.build(settings())
    models.save(uri, network, settings(), epoch=3)
    loaded = faceae.load(uri)
    assert loaded.settings == settings()
    assert not loaded.training
    given, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    assert torch.equal(loaded(given, mask), network.eval()(given, mask))


@pytest.fixture
def saved(tmp_path):
    """A saved model's folder."""
    models.save(str(tmp_path / "model"), models.build(settings()), settings())
    return tmp_path / "model"


def refusal(folder):
    """Returns why a folder is refused, in one short line."""
    with pytest.raises(InputError) as error:
        faceae.load(str(folder))
    text = str(error.value)
    assert text.startswith(f"{folder}: ")
    assert "\n" not in text
    assert len(text) < 1600
    return text.removeprefix(f"{folder}: ")


def test_where_there_is_no_model_the_error_says_so(tmp_path, saved):
    assert refusal(tmp_path / "nowhere") == "it does not exist; check the path"
    (tmp_path / "pictures").mkdir()
    assert refusal(tmp_path / "pictures").startswith("no model is there; the folder of one, such as <run>/model, has")
    assert refusal(saved / "config.json").startswith("no model is there")


def test_the_folder_of_a_run_is_told_from_that_of_its_model(tmp_path, saved):
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict(settings())))
    assert refusal(tmp_path) == f"this is a run's folder; name the model in it, {saved}"


WEIGHT = "encoder.0.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda all: all[WEIGHT].view(-1)[:1].fill_(float("nan")), f"{WEIGHT} is NaN or infinite in places"),
        (lambda all: all[WEIGHT].view(-1)[-1:].fill_(float("-inf")), f"{WEIGHT} is NaN or infinite in places"),
        (lambda all: all.update(more=torch.ones(1)), "it holds more"),
        (lambda all: all.pop(WEIGHT), f"it lacks {WEIGHT}"),
        (lambda all: all.update({WEIGHT: all[WEIGHT].half()}), "is float16 32x3x3x3 instead of float32 32x3x3x3"),
        (lambda all: all.update({WEIGHT: all[WEIGHT][..., :1].clone()}), "is float32 32x3x3x1 instead of float32 32x"),
        (lambda all: all.clear(), "it lacks decoder.0.bias (and"),
    ],
    ids=["NaN", "infinite", "one more", "one less", "another type", "another shape", "none"],
)
def test_weights_that_are_not_the_models_are_refused_in_one_line(saved, change, words):
    weights = safetensors.torch.load((saved / "model.safetensors").read_bytes())
    change(weights)
    (saved / "model.safetensors").write_bytes(safetensors.torch.save(weights))
    text = refusal(saved)
    assert text.startswith("model.safetensors does not hold the network of config.json: ")
    assert words in text


def test_weights_of_another_network_are_refused_in_one_line(saved):
    (saved / "model.safetensors").write_bytes(models.weights(unet()))
    assert "it holds coarser.0.bias (and" in refusal(saved)


def test_a_damaged_or_missing_file_of_a_model_is_named(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert refusal(saved).startswith("model.safetensors does not hold the network")
    weights.write_bytes(bytes(10_000_000))
    assert refusal(saved).endswith("it is larger than these weights can be")
    weights.unlink()
    with pytest.raises(InputError, match=r"model/model\.safetensors: it does not exist"):
        faceae.load(str(saved))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "config.json is damaged"),
        (b"\xff\xfe\xfd", "config.json is damaged"),
        (b"[" * 100_000, "config.json is damaged: it is nested too deeply"),
        (b"{}" + b" " * 2**26, "config.json is damaged: it is larger than 64 MiB"),
        *((content, "no model is there") for content in (b"[]", b"3", b"null", b'"settings"', b"{}")),
        (b'{"settings": []}', "config.json is damaged, or another version"),
        (b'{"settings": {"model": {"width": "wide"}}}', "--model.width 'wide'"),
        (b'{"settings": {"model": {"blocks": 1000000000}}}', "--model.blocks 1000000000"),
        (b'{"settings": {"model": "%s"}}' % (b"x" * 10_000), "--model 'xxx"),
        (b'{"settings": {"more": 1}}', "--more 1"),
        (b'{"settings": {}}', "model.safetensors does not hold the network"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_junk_in_a_models_config_is_one_line(saved, content, words):
    (saved / "config.json").write_bytes(content)
    assert words in refusal(saved)


def test_an_output_that_is_not_finite_is_an_error_and_no_black_hole(saved):
    model = faceae.load(str(saved))
    model.network.encoder[1].running_var.fill_(-1)
    picture, hole = np.zeros((32, 32, 3), np.uint8), np.eye(32, dtype=bool)
    with pytest.raises(InputError, match="the model's output is not finite"):
        model(picture, hole)
