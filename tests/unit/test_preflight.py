"""What the driver checks of a network before anything starts."""

import pytest
import torch
from runs import small

from faceae import models
from faceae.cluster import preflight
from faceae.cluster.placement import Placement
from faceae.errors import InputError

NODE = {"Alive": True, "Resources": {"CPU": 2.0, "memory": 5e9, "object_store_memory": 3e9}}


@pytest.fixture(autouse=True)
def nodes(monkeypatch):
    monkeypatch.setattr(preflight.ray, "nodes", lambda: [NODE, {"Alive": False, "Resources": {"memory": 1e15}}])


@pytest.mark.parametrize(
    "model",
    [
        {"latent_dim": 20_000},
        {"latent_dim": 1},
        {"name": "unet", "width": 256, "window": 32},
        {"name": "unet", "width": 64, "blocks": 5, "window": 32},
        {"name": "unet", "width": 64, "levels": 5, "window": 32},
        {"name": "unet", "width": 256, "levels": 2, "window": 32},
        {"name": "unet", "width": 8, "latent_dim": 1, "window": 32},
    ],
)
@pytest.mark.parametrize("size", [16, 64])
def test_the_bound_is_below_the_number_of_weights_and_not_far(model, size):
    settings = small("faces", "out", "x", data__image_size=size, **{f"model__{key}": model[key] for key in model})
    with torch.device("meta"):
        weights = sum(each.numel() for each in models.build(settings).parameters())
    bound = preflight.weights_at_least(settings)
    assert bound <= weights
    if weights > 10_000_000:
        assert bound > 0.8 * weights


@pytest.mark.parametrize(
    ("changes", "gpu", "words"),
    [
        ({"model__latent_dim": 10**7}, 0, r"latent-dim 10000000: .* at least 81\.9 GB .* 8\.0 GB"),
        ({"model__latent_dim": 10**15}, 1, r"^--model\.latent-dim"),
        ({"model__name": "unet", "model__blocks": 10**9}, 0, r"^--model\.width 32"),
        ({"model__latent_dim": 900_000}, 0, None),
        ({"model__latent_dim": 900_000, "optim__average": 0.1}, 0, r"at least 9\.2 GB"),
        ({"model__latent_dim": 1_000_000}, 1, None),
    ],
)
def test_a_network_larger_than_the_memory_of_every_node_is_refused(changes, gpu, words):
    settings = small("faces", "out", "x", **changes)
    if words is None:
        preflight.check_network(settings, Placement(1, gpu, 1))
        return
    with pytest.raises(InputError, match=words):
        preflight.check_network(settings, Placement(1, gpu, 1))


@pytest.mark.parametrize(
    ("size", "batch", "images", "placed", "refused"),
    [
        (16, 1, 20, Placement(1, 0, 1), True),
        (16, 4, 21, Placement(1, 0, 1), True),  # the last batch has one image
        (16, 4, 22, Placement(1, 0, 1), False),
        (16, 4, 21, Placement(2, 0, 2), False),  # which is left out here
        (16, 4, 22, Placement(2, 0, 2), True),
        (16, 3, 20, Placement(2, 0, 2), True),
        (16, 3, 21, Placement(2, 1, 2), False),  # GPUs share their statistics
        (32, 1, 21, Placement(1, 0, 1), False),
        (16, 64, 40, Placement(1, 0, 1), False),
    ],
)
def test_a_batch_of_one_image_is_refused_where_batch_norm_needs_two(size, batch, images, placed, refused):
    settings = small("faces", "out", "x", data__image_size=size, mask__size=4, train__batch_size=batch)
    if refused:
        with pytest.raises(InputError, match=r"^--train\.batch-size .* batch norm needs two"):
            preflight.check_batch_norm(settings, placed, images)
    else:
        preflight.check_batch_norm(settings, placed, images)


@pytest.mark.parametrize(("size", "images", "accepted"), [(16, 1, False), (16, 2, True), (32, 1, True)])
def test_that_is_where_torch_refuses_it(size, images, accepted):
    network = models.build(small("faces", "out", "x", data__image_size=size)).train()
    try:
        network(torch.rand(images, 3, size, size), None)
        assert accepted
    except ValueError:
        assert not accepted
