"""Holes divided into pieces; without Ray."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceae.corruption.components import Box
from faceae.corruption.pieces import pieces, thin_pieces

UNIT = 28


def hole_with(*boxes, shape=(300, 400)):
    hole = np.zeros(shape, np.bool_)
    for top, bottom, left, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


@st.composite
def holes(draw):
    shape = draw(st.tuples(st.integers(1, 120), st.integers(1, 120)))
    edge = st.integers(0, 120)
    return hole_with(*draw(st.lists(st.tuples(edge, edge, edge, edge), max_size=6)), shape=shape)


@given(holes(), st.integers(1, 40))
def test_pieces_cover_the_hole_and_nothing_beyond_its_bounds(hole, unit):
    covered = np.zeros_like(hole)
    for piece in itertools.chain.from_iterable(pieces(hole, unit, min(hole.shape))):
        inside = hole[piece.inside]
        assert inside.size == (piece.bottom - piece.top) * (piece.right - piece.left)
        assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
        covered[piece.inside] = True
    assert covered[hole].all()


@pytest.mark.parametrize("side", [1, 30, 60, 240])
def test_a_box_of_any_size_is_one_piece(side):
    assert pieces(hole_with((20, 20 + side, 50, 50 + side)), UNIT, 300) == [[Box(20, 20 + side, 50, 50 + side)]]


def test_a_scratch_is_cut_into_cells_twice_as_large_as_it_is_thick():
    scratch = hole_with((100, 120, 10, 390))
    sides = [piece.right - piece.left for turn in pieces(scratch, UNIT, 300) for piece in turn]
    assert sorted(sides) == [20] + [40] * 9
    thin = hole_with((100, 104, 10, 390))
    assert max(piece.right - piece.left for turn in pieces(thin, UNIT, 300) for piece in turn) == UNIT


def test_cells_of_a_turn_do_not_touch():
    for turn in pieces(hole_with((10, 290, 20, 30), (10, 20, 20, 380)), UNIT, 300):
        for one, other in itertools.combinations(turn, 2):
            apart = max(
                max(one.top, other.top) - min(one.bottom, other.bottom),
                max(one.left, other.left) - min(one.right, other.right),
            )
            assert apart > 0


def test_holes_that_are_apart_are_pieces_of_their_own():
    found = pieces(hole_with((10, 40, 10, 40), (100, 220, 200, 320)), UNIT, 300)
    assert found == [[Box(10, 40, 10, 40), Box(100, 220, 200, 320)]]


def test_a_hole_longer_than_the_frame_is_cut_so_that_its_surroundings_show():
    found = pieces(hole_with((0, 300, 50, 390)), UNIT, 300)
    assert all(piece.right - piece.left <= 225 for turn in found for piece in turn)
    assert len(found) > 1


def test_a_picture_of_noise_costs_no_more_pieces_than_cells():
    noise = np.random.default_rng(0).random((560, 560)) < 0.05
    assert sum(map(len, pieces(noise, UNIT, 560))) <= (560 // UNIT) ** 2


@given(holes(), st.integers(8, 64), st.integers(1, 14), st.integers(1, 600))
def test_thin_pieces_cover_the_hole_at_a_scale_at_which_it_is_thin(hole, cell, thickness, largest):
    covered = np.zeros_like(hole)
    for piece, scale in thin_pieces(hole, cell, thickness, largest):
        assert max(piece.bottom - piece.top, piece.right - piece.left) <= min(round(cell * scale), largest)
        covered[piece.inside] = True
    assert covered[hole].all()
    if hole.any():
        assert max(scale for _, scale in thin_pieces(hole, cell, thickness, largest)) >= 1


def test_a_thin_scratch_is_seen_as_it_is_and_a_thicker_one_scaled_down():
    thin, thick = hole_with((100, 104, 10, 390)), hole_with((100, 120, 10, 390))
    assert {scale for _, scale in thin_pieces(thin, 64, 10, 400)} == {1}
    assert {scale for _, scale in thin_pieces(thick, 64, 10, 400)} == {2}
    assert len(thin_pieces(thick, 64, 10, 400)) == 3
