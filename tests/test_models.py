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


def test_article_goes_through_its_latent():
    network = models.build(settings(latent=7))
    assert network.encoder(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_saved_model_loads_and_gives_the_same(place, tmp_path, request):
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


def test_a_missing_or_damaged_model_says_so(tmp_path):
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
