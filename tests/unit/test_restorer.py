"""Restoring pictures at their own size, with any network; without Ray."""

import dataclasses

import numpy as np
import pytest
import torch
from networks import tiny
from PIL import Image
from torch import nn

import faceae
from faceae import models
from faceae.config import Model, Train
from faceae.data.synthetic import portrait
from faceae.errors import InputError
from faceae.models import SurroundingsModel, mixing, thin
from faceae.models.membrane import extend
from faceae.models.restorer import Restorer

SIZE = 32


CHANGES = {
    "article": {},
    "unet": {},
    "deep unet": {"model": Model("unet", latent_dim=8, window=32, width=8, levels=5)},
    "sharpened unet": {"train": Train(sharpen=0.3, best_by="last")},
}


@pytest.fixture(scope="module", params=CHANGES)
def model(request, tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("model"))
    _, settings = tiny(request.param.split()[-1])
    settings = dataclasses.replace(settings, **CHANGES[request.param])
    models.save(uri, models.build(settings), settings)
    return faceae.load(uri)


@pytest.fixture
def faces_only(monkeypatch):
    """Leaves large holes in smooth surroundings to the network under test, as those in rough ones are."""
    monkeypatch.setattr(mixing, "plain", lambda picture, hole, part: np.zeros_like(part))


def picture(height, width):
    """A portrait stretched to the given shape."""
    return np.asarray(Image.fromarray(portrait(1, 64)).resize((width, height)))


def hole_at(pixels, top, bottom, left, right):
    hole = np.zeros(pixels.shape[:2], np.bool_)
    hole[top:bottom, left:right] = True
    return hole


def test_at_the_networks_own_size_the_result_is_its_output_joined_to_what_is_known(model):
    pixels = portrait(3, SIZE)
    hole = hole_at(pixels, 5, 15, 8, 20)
    known = 1 - torch.from_numpy(hole)[None, None].float()
    given = torch.tensor(pixels).permute(2, 0, 1)[None] / 255 * known
    with torch.inference_mode():
        output = model(given, 1 - known)
    joined = output + extend(given - output, known)
    expected = (255 * joined[0]).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    restored = model(pixels, hole)
    assert (restored[~hole] == pixels[~hole]).all()
    assert np.abs(restored.astype(int) - expected)[hole].max() <= 1


def test_a_sharpened_network_is_not_averaged_with_its_mirror_image():
    _, settings = tiny("unet")
    sharpened = dataclasses.replace(settings, train=Train(sharpen=0.3, best_by="last"))
    averaged, single = (models.build(each).eval() for each in (settings, sharpened))
    single.load_state_dict(averaged.state_dict())
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., 5:15, 8:20] = 1
    given = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * (1 - mask)
    with torch.inference_mode():
        one, mirrored = single(given, mask), single(given.flip(3), mask.flip(3)).flip(3)
        assert not torch.allclose(one, mirrored)
        torch.testing.assert_close(averaged(given, mask), (one + mirrored) / 2)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((SIZE, SIZE), (0, 10, 22, 32)),
        ((100, 100), (90, 100, 0, 40)),
        ((20, 20), (3, 9, 3, 9)),
        ((60, 150), (20, 40, 0, 15)),
        ((150, 60), (110, 150, 30, 60)),
        ((40, 200), (15, 25, 2, 198)),
        ((33, 47), (0, 33, 0, 46)),
        ((400, 400), (7, 8, 9, 10)),
    ],
)
def test_known_pixels_never_change_and_the_whole_hole_is_filled(model, shape, box):
    pixels = picture(*shape).clip(1)
    hole = hole_at(pixels, *box)
    given = np.where(hole[..., None], 0, pixels).astype(np.uint8)
    restored = model(given, hole)
    assert restored.dtype == np.uint8
    assert (restored[~hole] == pixels[~hole]).all()
    assert restored[hole].any(1).mean() > 0.99  # a pixel may really be black
    assert not given[hole].any()


@pytest.mark.parametrize(("noise", "share"), [(0, 0), (2, 0.06), (60, 0.5)])
def test_a_hole_that_is_neither_thin_nor_large_gets_a_mixture_of_both_networks(
    model, faces_only, monkeypatch, noise, share
):
    """Of the one that is for faces half, but the less, the better a smooth shade fits its surroundings."""
    rows, columns = np.mgrid[:320, :320][..., None] / 4
    shade = 60 + rows + columns + np.random.default_rng(0).normal(0, noise, (320, 320, 3))
    pixels = shade.round().clip(0, 255).astype(np.uint8)
    hole = hole_at(pixels, 100, 120, 100, 120)
    locally = pixels.copy()
    thin.fill_thin([locally], [hole], [hole], torch.device("cpu"))
    both = model(pixels, hole)
    monkeypatch.setattr(thin, "LARGEST", thin.SHARE)
    alone = model(pixels, hole)
    assert (alone != locally)[hole].any()
    assert np.abs(both - ((1 - share) * locally + share * alone))[hole].max() < 1 + 0.01 * 255


@pytest.mark.parametrize(("noise", "plain"), [(0, True), (2, True), (20, False)])
def test_a_large_hole_in_a_smooth_shade_is_left_to_the_network_for_surroundings(model, noise, plain):
    """The one for faces left a cast on plain walls."""
    rows, columns = np.mgrid[:200, :200][..., None] / 3
    shade = 60 + rows + columns + np.random.default_rng(0).normal(0, noise, (200, 200, 3))
    pixels = shade.round().clip(0, 255).astype(np.uint8)
    hole = hole_at(pixels, 30, 130, 40, 140)
    assert (model(pixels, hole) == SurroundingsModel()(pixels, hole)).all() == plain


class Ramp(nn.Module):
    """Returns colours that encode the position: red grows from left to right, green from top to bottom."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, given, mask):
        steps = (torch.arange(SIZE) + 0.5) / SIZE
        ramp = torch.stack([steps.expand(SIZE, SIZE), steps[:, None].expand(SIZE, SIZE), torch.zeros(SIZE, SIZE)])
        return self.one * ramp.expand_as(given)


@pytest.mark.parametrize("side", [SIZE, 20, 77, 160])
def test_the_filling_is_neither_shifted_nor_dark_at_the_edge_of_the_hole(side, faces_only):
    steps = (np.arange(side) + 0.5) / side
    ramp = np.stack([np.tile(steps, (side, 1)), np.tile(steps[:, None], side), np.zeros((side, side))], 2)
    pixels = (255 * ramp).round().astype(np.uint8)
    hole = hole_at(pixels, side // 4, side // 2, side // 3, 3 * side // 4)
    restored = Restorer(Ramp(), tiny()[1])(np.where(hole[..., None], 0, pixels).astype(np.uint8), hole)
    off = np.abs(restored.astype(int) - pixels)[hole]
    # A downscaled pixel that is half known takes the colour of that half.
    assert off.max() <= 255 / min(side, SIZE) * 0.75
    assert off.mean() <= 1.5


def test_a_pillow_picture_is_returned_as_one_with_its_metadata(model):
    image, mask = Image.fromarray(picture(48, 64)), Image.new("L", (64, 48))
    mask.paste(255, (10, 10, 30, 20))
    image.info["icc_profile"] = b"of a camera"
    restored = model(image, mask)
    assert (restored.mode, restored.size, restored.info) == ("RGB", (64, 48), image.info)
    hole = np.asarray(mask) > 0
    assert (np.asarray(restored) == model(np.asarray(image), hole)).all()
    assert model(image.convert("L"), hole).mode == "RGB"
    assert (model(np.asarray(image), np.zeros_like(hole)) == np.asarray(image)).all()


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), bool), r"the picture is uint8 \(8, 8\)"),
        (np.zeros((8, 8, 3)), np.zeros((8, 8), bool), "the picture is float64"),
        (np.zeros((8, 9, 3), np.uint8), np.zeros((9, 8), bool), r"the mask is bool \(9, 8\).*8 rows of 9"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), "the mask is uint8"),
        (Image.new("F", (8, 8)), np.zeros((8, 8), bool), "the picture cannot be used: 32-bit"),
    ],
)
def test_a_wrong_picture_or_mask_is_named(image, mask, words):
    network, settings = tiny()
    with pytest.raises(InputError, match=words):
        Restorer(network, settings)(image, mask)
