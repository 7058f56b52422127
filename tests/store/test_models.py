"""The networks, and saving and loading a model."""

import pytest
import torch

import faceae
from faceae import models
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


def test_a_missing_or_damaged_model_is_an_error_that_names_the_problem(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        faceae.load(str(tmp_path))
    models.save(str(tmp_path), models.build(settings()), settings())
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        faceae.load(str(tmp_path))
    weights.write_bytes(whole)
    for content in ("{", "{}"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=r"config\.json is damaged"):
            faceae.load(str(tmp_path))
