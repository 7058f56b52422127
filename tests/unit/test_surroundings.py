"""The model that comes with faceae, on pictures that it was not trained on; without Ray."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from faceae.errors import InputError
from faceae.evaluation import baselines
from faceae.models import SurroundingsModel
from pretrain.leaves import leaves

NUMBERS = range(5000, 5004)  # `make pretrain` draws 160
SIDE = 256


@pytest.fixture(scope="module")
def pictures():
    return [leaves(number)[:SIDE, :SIDE] for number in NUMBERS]


def scratches(width):
    canvas = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(canvas)
    for left in range(40, SIDE - 40, 80):
        pen.line([(left, 20), (left + 40, SIDE // 2), (left - 30, SIDE - 20)], 255, width)
    return np.asarray(canvas) > 0


def boxes(side):
    hole = np.zeros((SIDE, SIDE), np.bool_)
    for top in range(20, SIDE - side, 60):
        hole[top : top + side, top : top + side] = True
    return hole


@pytest.mark.parametrize("hole", [scratches(4), boxes(15)], ids=["scratches", "boxes"])
def test_it_is_better_than_any_method_without_a_network(pictures, hole):
    """What docs/local-network.md says of scratches and spots in photographs holds for drawings, too."""

    def error(filled):
        pairs = zip(filled, pictures, strict=True)
        return np.mean([np.square(one[hole].astype(float) - other[hole]).mean() for one, other in pairs])

    given = [np.where(hole[..., None], np.uint8(0), pixels) for pixels in pictures]
    classical = {
        name: error([fill(pixels, hole) for pixels in given])
        for name, fill in baselines.available().items()
        if name not in ("black", "mean")
    }
    assert len(classical) == 3
    assert error(SurroundingsModel().restore(given, [hole] * len(given))) < 0.75 * min(classical.values())


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((33, 200), (10, 20, 2, 198)),
        ((40, 120), (0, 40, 20, 70)),
        ((300, 30), (2, 298, 0, 30)),
        ((64, 64), (0, 64, 5, 64)),
    ],
)
def test_a_hole_may_be_longer_than_the_picture_s_shorter_side_and_reach_across_it(shape, box):
    """No window sees anything known around the middle of such a hole; it once broke off, or stayed black."""
    picture = np.full((*shape, 3), (200, 120, 60), np.uint8)
    hole = np.zeros(shape, np.bool_)
    hole[box[0] : box[1], box[2] : box[3]] = True
    restored = SurroundingsModel()(np.where(hole[..., None], np.uint8(0), picture), hole)
    assert np.abs(restored.astype(int) - picture).max() <= 1


def test_known_pixels_stay_and_wrong_input_is_refused(pictures):
    hole = boxes(40)
    model = SurroundingsModel()
    (filled,) = model.restore(pictures[:1], [hole])
    assert (filled[~hole] == pictures[0][~hole]).all()
    assert (model(pictures[0], hole) == filled).all()
    with pytest.raises(InputError, match="the mask is"):
        model.restore(pictures[:1], [hole[1:]])


def test_it_moves_without_moving_that_of_others():
    assert not list(SurroundingsModel().to(torch.device("meta")).parameters())
    assert SurroundingsModel()._where.device.type == "cpu"
