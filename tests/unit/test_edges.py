"""The edge of a hole: it grows by squares, and blends inside itself only."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageFilter

from faceae.corruption import edges


@settings(deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=30)), st.integers(0, 12))
def test_a_hole_grows_by_pixels_to_each_side(hole, pixels):
    before = hole.copy()
    larger = Image.fromarray(np.pad(hole, pixels)).convert("L").filter(ImageFilter.MaxFilter(2 * pixels + 1))
    height, width = hole.shape
    expected = np.asarray(larger)[pixels : pixels + height, pixels : pixels + width] > 0
    assert (edges.grown(hole, pixels) == expected).all()
    assert (hole == before).all()


@settings(deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=30)), st.integers(0, 6))
def test_the_thick_parts_are_the_squares_that_lie_in_a_hole(hole, pixels):
    side = 2 * pixels + 1
    expected = np.zeros_like(hole)
    for top, left in itertools.product(range(hole.shape[0] - side + 1), range(hole.shape[1] - side + 1)):
        square = slice(top, top + side), slice(left, left + side)
        expected[square] |= hole[square].all()
    assert (edges.thick_parts(hole, pixels) == edges.grown(expected, pixels) & hole).all()


def test_a_scratch_across_a_disc_is_told_from_it():
    rows, columns = np.mgrid[:200, :200]
    disc = np.hypot(rows - 100, columns - 100) < 60
    hole = disc.copy()
    hole[98:102] = True
    thick = edges.thick_parts(hole, 10)
    assert thick[disc].all()
    assert np.flatnonzero(thick[100])[[0, -1]].tolist() == [41 - 10, 159 + 10]


def test_the_blend_rises_linearly_from_the_edge_and_stays_inside_the_hole():
    picture, filled = np.zeros((20, 30, 3), np.uint8), np.full((20, 30, 3), 240, np.uint8)
    hole = np.zeros((20, 30), np.bool_)
    hole[4:16, :15] = True  # up to the picture's own edge, where nothing is known that it could differ from
    filled[~hole] = 7
    edges.feather(filled, picture, hole, 3)
    assert filled[10, :15, 0].tolist() == [240] * 12 + [180, 120, 60]
    assert filled[4:16, 0, 0].tolist() == [60, 120, 180, *[240] * 6, 180, 120, 60]
    assert (filled[~hole] == 7).all()


@pytest.mark.parametrize("hole", [np.zeros((5, 6), np.bool_), np.ones((5, 6), np.bool_)])
def test_a_hole_without_an_edge_is_not_blended(hole):
    filled = np.full((5, 6, 3), 9, np.uint8)
    edges.feather(filled, np.zeros_like(filled), hole, 4)
    assert (filled == 9).all()
    assert (edges.grown(hole, 4) == hole).all()
