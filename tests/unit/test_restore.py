"""One picture restored at its own size, and the finder of black boxes; without Ray."""

import io

import numpy as np
import pytest
import torch
from networks import tiny
from pictures import png
from PIL import Image
from torch import nn

import faceae
from faceae import models
from faceae.corruption.detection import detect_holes
from faceae.data.synthetic import portrait
from faceae.errors import InputError
from faceae.models.restorer import Restorer, next_square

SIZE = 32


@pytest.fixture(scope="module", params=["article", "unet"])
def model(request, tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("model"))
    models.save(uri, *tiny(request.param))
    return faceae.load(uri)


def picture(height, width):
    """A portrait stretched to any shape."""
    return np.asarray(Image.fromarray(portrait(1, 64)).resize((width, height)))


def hole_at(pixels, top, bottom, left, right):
    hole = np.zeros(pixels.shape[:2], np.bool_)
    hole[top:bottom, left:right] = True
    return hole


def test_at_the_networks_own_size_it_is_the_networks_composite(model):
    pixels = portrait(3, SIZE)
    hole = hole_at(pixels, 5, 15, 8, 20)
    mask = torch.from_numpy(hole)[None, None].float()
    given = torch.tensor(pixels).permute(2, 0, 1)[None] / 255 * (1 - mask)
    with torch.inference_mode():
        output = (255 * model(given, mask)[0]).round().byte().permute(1, 2, 0).numpy()
    assert (model(pixels, hole) == np.where(hole[..., None], output, pixels)).all()


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
def test_known_pixels_are_never_altered_and_all_of_the_hole_is_filled(model, shape, box):
    pixels = picture(*shape).clip(1)
    hole = hole_at(pixels, *box)
    given = np.where(hole[..., None], 0, pixels).astype(np.uint8)
    restored = model(given, hole)
    assert restored.dtype == np.uint8
    assert (restored[~hole] == pixels[~hole]).all()
    assert restored[hole].any(1).all()
    assert not given[hole].any()


class Ramp(nn.Module):
    """Fills with what says where it is: red from left to right, green from top to bottom."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, given, mask):
        steps = (torch.arange(SIZE) + 0.5) / SIZE
        ramp = torch.stack([steps.expand(SIZE, SIZE), steps[:, None].expand(SIZE, SIZE), torch.zeros(SIZE, SIZE)])
        return self.one * ramp.expand_as(given)


@pytest.mark.parametrize("side", [SIZE, 20, 77, 160])
def test_what_is_filled_in_is_neither_shifted_nor_dark_at_the_border_of_the_hole(side):
    steps = (np.arange(side) + 0.5) / side
    ramp = np.stack([np.tile(steps, (side, 1)), np.tile(steps[:, None], side), np.zeros((side, side))], 2)
    pixels = (255 * ramp).round().astype(np.uint8)
    hole = hole_at(pixels, side // 4, side // 2, side // 3, 3 * side // 4)
    restored = Restorer(Ramp(), tiny()[1])(np.where(hole[..., None], 0, pixels).astype(np.uint8), hole)
    off = np.abs(restored.astype(int) - pixels)[hole]
    assert off.max() <= 255 / min(side, SIZE) * 0.75  # a pixel whose small one is half known has its colour
    assert off.mean() <= 1.5


@pytest.mark.parametrize(
    ("shape", "box", "square"),
    [
        ((40, 100), (0, 5, 45, 50), (30, 70)),
        ((40, 100), (0, 5, 2, 8), (2, 42)),
        ((40, 100), (0, 5, 90, 100), (60, 100)),
        ((40, 100), (0, 5, 40, 80), (40, 80)),
        ((40, 100), (0, 5, 20, 90), (10, 50)),
        ((40, 100), (0, 5, 0, 100), (0, 40)),
    ],
)
def test_the_square_holds_the_hole_near_the_middle(shape, box, square):
    hole = hole_at(np.zeros((*shape, 3)), *box)
    assert next_square(hole) == (slice(0, 40), slice(*square))
    assert next_square(hole.T) == (slice(*square), slice(0, 40))


def test_pictures_of_pillow_come_back_as_such(model):
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
def test_what_is_no_picture_or_mask_is_named(image, mask, words):
    network, settings = tiny()
    with pytest.raises(InputError, match=words):
        Restorer(network, settings)(image, mask)


def jpeg(pixels, quality=90):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


BOXES = [(30, 70, 50, 90), (100, 118, 10, 28), (0, 20, 100, 128)]


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_boxes_are_found(form):
    pixels = portrait(2, 128).clip(1)
    hole = np.zeros((128, 128), np.bool_)
    for top, bottom, left, right in BOXES:
        hole[top:bottom, left:right] = True
    pixels[hole] = 0
    if form == "png":
        assert (detect_holes(np.asarray(Image.open(io.BytesIO(png(Image.fromarray(pixels))))), False) == hole).all()
    else:
        found = detect_holes(jpeg(pixels), True)
        assert found[hole].all()
        wide = np.zeros_like(hole)
        for top, bottom, left, right in BOXES:
            wide[max(0, top - 4) : bottom + 4, max(0, left - 4) : right + 4] = True
        assert not found[~wide].any()


def test_what_is_dark_is_no_box():
    rows, columns = np.mgrid[:128, :128]
    dark = np.full((128, 128, 3), 120, np.uint8)
    dark[(rows - 60) ** 2 + (columns - 60) ** 2 < 900] = 0  # a disc
    dark[100:120, 10:20] = 0
    dark[110:120, 20:60] = 0  # an L
    dark[5:12, 5:100] = 0  # too thin
    assert not detect_holes(dark, False).any()
    assert not detect_holes(jpeg(dark), True).any()
    noise = np.random.default_rng(0).integers(0, 30, (128, 128, 3), np.uint8)
    for lossy in (False, True):
        assert not detect_holes(noise, lossy).any()
        assert not detect_holes(np.zeros((5, 90, 3), np.uint8), lossy).any()


def test_real_faces_have_few(shared):
    files = sorted((shared / "ffhq").rglob("*.png"))[:40]
    found = [
        detect_holes(np.asarray(Image.open(file).convert("RGB")), lossy) for file in files for lossy in (False, True)
    ]
    assert sum(hole.any() for hole in found) <= 4
