"""The detection of solid black boxes, which are the holes of a picture without a mask."""

import io

import numpy as np
import pytest
from pictures import png
from PIL import Image

from faceae.corruption.detection import detect_holes
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


def test_few_boxes_are_found_in_real_faces(shared):
    files = sorted((shared / "ffhq").rglob("*.png"))[:40]
    found = [
        detect_holes(np.asarray(Image.open(file).convert("RGB")), lossy) for file in files for lossy in (False, True)
    ]
    assert sum(hole.any() for hole in found) <= 4
