"""How rough the surroundings of a hole are; without Ray."""

import numpy as np
import pytest

from faceae.corruption.components import bounds
from faceae.models.mixing import roughness


def shaded(height, width):
    rows, columns = np.mgrid[:height, :width][..., None] / max(height, width)
    return np.round(100 + 90 * rows - 60 * columns**2 + 40 * rows * columns + np.zeros(3)).astype(np.uint8)


def hole_of(picture, top, bottom, left, right):
    hole = np.zeros(picture.shape[:2], np.bool_)
    hole[top:bottom, left:right] = True
    return hole


@pytest.mark.parametrize("size", [(7, 9), (40, 40), (200, 150)])
def test_a_quadratic_shade_is_smooth_whatever_is_in_the_hole(size):
    picture = shaded(400, 300)
    hole = hole_of(picture, 60, 60 + size[0], 80, 80 + size[1])
    picture[hole] = 255
    assert roughness(picture, hole, bounds(hole)) < 0.6 / 255  # it was rounded


@pytest.mark.parametrize("deviation", [3, 12, 40])
def test_noise_is_measured(deviation):
    picture = shaded(300, 300) + np.random.default_rng(0).normal(0, deviation, (300, 300, 3))
    picture = picture.clip(0, 255).round().astype(np.uint8)
    hole = hole_of(picture, 50, 120, 100, 170)
    assert roughness(picture, hole, bounds(hole)) == pytest.approx(deviation / 255, rel=0.1)


def test_what_lies_in_the_middle_and_at_the_picture_s_border_is_measured_too():
    picture = shaded(80, 80)
    for box in ((0, 30, 0, 30), (60, 80, 0, 80)):
        hole = hole_of(picture, *box)
        assert roughness(picture, hole, bounds(hole)) < 0.6 / 255


def test_without_surroundings_nothing_is_smooth():
    picture = shaded(20, 20)
    hole = hole_of(picture, 0, 20, 0, 20)
    assert roughness(picture, hole, bounds(hole)) == 1
