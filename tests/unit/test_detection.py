"""The detection of solid black boxes, which are the holes of a picture without a mask."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pictures import png
from PIL import Image

from faceae.corruption import detection
from faceae.corruption.components import components
from faceae.corruption.detection import Doubtful, TooManyAreas, detect_holes
from faceae.data.full_size import read_full_size
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait


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


def test_dark_shapes_that_are_not_boxes_are_ignored():
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


def found(pixels, lossy):
    try:
        return bool(detect_holes(pixels, lossy).any())
    except Doubtful:
        return False


def test_no_box_is_found_in_real_faces(shared):
    files = sorted((shared / "ffhq").rglob("*.png"))
    for pixels in (np.asarray(Image.open(file).convert("RGB")) for file in files):
        assert not found(pixels, False)
        assert not found(jpeg(pixels, 95), True)


@pytest.mark.parametrize("lossy", [False, True])
def test_a_black_area_without_sharp_straight_sides_is_listed_not_painted(lossy, tmp_path):
    """A shadow of 9x8 pixels that gets lighter around it, as in a clipped photograph."""
    rows, columns = np.mgrid[:64, :64]
    away = np.maximum(np.maximum(20 - rows, rows - 27), np.maximum(30 - columns, columns - 38)).clip(0)
    shadow = np.repeat((9 * away).clip(0, 120)[..., None], 3, 2).astype(np.uint8)
    with pytest.raises(Doubtful, match=r"^the black area of \d+x\d+ pixels at column \d+, row \d+$"):
        detect_holes(shadow, lossy)
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(shadow)))
    (block,) = read_full_size(list_sources([str(tmp_path)], "").entries, ["a.png"], None, 32)
    assert block["reason"].to_pylist() == [
        "the black area of 9x8 pixels at column 30, row 20 may belong to the picture, so it is left alone; "
        "if it is a hole, give it a mask that is white where the hole is"
    ]
    shadow[45:60, 5:25] = 0  # a drawn box is restored; the shadow still is not
    hole = detect_holes(shadow, False)
    assert hole.sum() == 300
    assert hole[45:60, 5:25].all()


def boxes_of_components(mask):
    """Fills one component after the other, pixel by pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    while left:
        edge, found = [left.pop()], []
        while edge:
            y, x = edge.pop()
            found.append((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    edge.append(near)
        rows, columns = zip(*found, strict=True)
        yield min(rows), max(rows) + 1, min(columns), max(columns) + 1


@settings(deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=25), elements=st.booleans(), fill=st.booleans()))
def test_components_are_those_that_filling_finds(mask):
    assert sorted(components(mask)) == sorted(boxes_of_components(mask))


def small_boxes(side, step=9):
    """A picture full of boxes of 8x8 pixels."""
    pixels = np.full((side, side, 3), 200, np.uint8)
    for top in range(0, side - 8, step):
        for left in range(0, side - 8, step):
            pixels[top : top + 8, left : left + 8] = 0
    return pixels


@pytest.mark.timeout(30)
def test_a_picture_full_of_small_boxes_takes_seconds():
    """It took 14 s where it takes 1.6 s now, and the time grew with the square of the boxes in a row."""
    pixels = small_boxes(1800)
    assert (detect_holes(pixels, False) == (pixels[..., 0] == 0)).all()


def test_a_picture_with_too_many_black_areas_is_rejected(monkeypatch, tmp_path):
    monkeypatch.setattr(detection, "MAX_AREAS", 100)
    with pytest.raises(TooManyAreas, match="121 black areas"):
        detect_holes(small_boxes(107), False)
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(small_boxes(107))))
    (block,) = read_full_size(list_sources([str(tmp_path)], "").entries, ["a.png"], None, 32)
    assert block["reason"].to_pylist() == [
        "it has 121 black areas, too many to look for boxes among them; give it a mask that is white where the hole is"
    ]
