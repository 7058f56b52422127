"""The windows in which a network sees the pieces of a hole; without Ray."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faceae.corruption.components import Box
from faceae.models.windows import Square, View, around, in_frame, paste


@given(st.data())
def test_a_window_has_its_piece_and_lies_in_its_frame_and_that_in_the_picture(data):
    shape = data.draw(st.tuples(st.integers(1, 200), st.integers(1, 200)))
    frame = min(shape)
    side = data.draw(st.integers(1, frame))
    height, width = data.draw(st.tuples(st.integers(1, side), st.integers(1, side)))
    top, left = data.draw(st.integers(0, shape[0] - height)), data.draw(st.integers(0, shape[1] - width))
    piece = Box(top, top + height, left, left + width)
    window = around(3, piece, shape, side)
    for first, end, seen, outer, length in (
        (piece.top, piece.bottom, window.seen.top, window.frame.top, shape[0]),
        (piece.left, piece.right, window.seen.left, window.frame.left, shape[1]),
    ):
        assert 0 <= outer <= seen <= first < end <= seen + side <= outer + frame <= length
    assert all(centre - window.seen.side / frame >= -1 for centre in in_frame(window)[:2])


def test_a_frame_is_in_the_middle_unless_the_piece_is_outside_of_that():
    assert around(0, Box(10, 20, 60, 70), (100, 300), 40).frame == Square(0, 45, 100)
    assert around(0, Box(10, 20, 120, 130), (100, 300), 40).frame == Square(0, 100, 100)
    assert around(0, Box(10, 20, 280, 300), (100, 300), 40).frame == Square(0, 200, 100)


@pytest.mark.parametrize("side", [40, 64, 300, 1100])
def test_a_part_keeps_its_colours_at_every_scale(side):
    """The hole is black in the picture; its colour must not spread into what is known."""
    picture = np.full((side, side, 3), (200, 100, 50), np.uint8)
    hole = np.zeros((side, side), np.bool_)
    hole[side // 3 : side // 2, side // 4 : side // 2] = True
    picture[hole] = 0
    view = View(picture, hole, Square(0, 0, side))
    assert view.known.shape[-1] < 1024
    colours, known = view.scaled(64)
    assert (colours.shape, known.shape) == ((3, 64, 64), (1, 64, 64))
    expected = torch.tensor([200, 100, 50])[:, None, None] / 255
    assert ((colours - expected).abs() * known).max() < 0.02
    assert not (colours * (1 - known)).any()
    assert abs((1 - known).mean().item() - hole.mean()) < 0.02


def test_a_hole_that_is_too_small_to_show_is_still_seen():
    picture, hole = np.full((900, 900, 3), 90, np.uint8), np.zeros((900, 900), np.bool_)
    hole[400:402, 500:503] = True
    assert 0 < (1 - View(picture, hole, Square(0, 0, 900)).scaled(64)[1]).sum() < 4


@pytest.mark.parametrize("side", [64, 200, 1300])
def test_a_drawing_of_another_brightness_joins_its_surroundings_and_only_the_piece_is_pasted(side):
    steps = np.linspace(60, 160, side + 20).astype(np.uint8)
    picture = np.repeat(np.tile(steps, (side + 20, 1))[..., None], 3, 2)
    hole = np.zeros(picture.shape[:2], np.bool_)
    third = side // 3
    hole[10 + third : 10 + 2 * third, 10 + third : 10 + 2 * third] = True
    hole[2, 3] = True  # of another piece
    given = np.where(hole[..., None], 0, picture).astype(np.uint8)
    window = around(0, Box(10 + third, 10 + 2 * third, 10 + third, 10 + 2 * third), hole.shape, side)
    restored, left = given.copy(), hole.copy()
    view = View(restored, left, window.seen)
    darker = torch.from_numpy(picture[window.seen.inside].copy()).permute(2, 0, 1) / 255 - 0.1
    drawn = torch.nn.functional.interpolate(darker[None], (64, 64), mode="area")[0]
    paste(view.joined(drawn), window, restored, left)
    assert (restored[~hole] == picture[~hole]).all()
    assert not restored[2, 3].any()
    inside = hole.copy()
    inside[2, 3] = False
    assert np.abs(restored.astype(int) - picture)[inside].max() <= 4
