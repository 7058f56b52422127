"""Metrics of pictures of any size: those of `faceae.metrics`, computed around the hole only."""

import numpy as np
import pytest
import torch

from faceae import metrics
from faceae.config.holes import parse
from faceae.corruption import masks
from faceae.data.synthetic import portrait
from faceae.evaluation import baselines, picture_metrics

HOLES = ("box:20", "strokes:3", "box:9:3", "strokes:12")


def picture(number=0, size=150):
    return portrait(number, size)


def tensor(pixels):
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255


def given(pixels, hole):
    return np.where(hole[..., None], np.uint8(0), pixels)


@pytest.mark.parametrize("name", HOLES)
def test_they_are_those_of_an_image_at_the_models_size(name):
    pixels = picture()
    hole = masks.draw_at_own_size("a", parse(name), pixels.shape[:2])
    fills = {"black": given(pixels, hole), "noise": np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)}
    at = picture_metrics.around(hole)
    parts = {name: np.where(hole[..., None], fill, pixels)[at] for name, fill in fills.items()}
    measured = picture_metrics.measure(pixels[at], hole[at], parts, hole.size)
    for each, fill in fills.items():
        pasted = tensor(np.where(hole[..., None], fill, pixels))
        expected = metrics.per_example(pasted, tensor(pixels), torch.from_numpy(hole)[None, None].float())
        found = [measured[each][metric] for metric in metrics.NAMES]
        assert found == pytest.approx([float(expected[metric]) for metric in metrics.NAMES], rel=1e-5, abs=1e-6)


def test_a_perfect_fill_has_the_originals_edge_and_no_error():
    pixels = picture(2)
    hole = masks.draw_at_own_size("a", parse("strokes:5"), pixels.shape[:2])
    measured = picture_metrics.measure(pixels, hole, {"": pixels}, hole.size)[""]
    assert measured["hole_mse"] == 0
    assert measured["psnr_db"] == pytest.approx(100)
    assert measured["composite_ssim"] == pytest.approx(1, abs=1e-5)
    assert measured["edge_step"] == picture_metrics.edge_step(pixels, hole) > 0


def test_the_edge_step_is_the_mean_difference_across_the_edge():
    pixels = np.zeros((5, 6, 3), np.uint8)
    hole = np.zeros((5, 6), np.bool_)
    hole[2, 2:4] = True  # six pairs: one above and one below each of its pixels, one to the left and one to the right
    pixels[2, 2:4] = 60
    assert picture_metrics.edge_step(pixels, hole) == 60
    pixels[1, 2] = 255  # the pair above differs by 195 instead of 60, in all channels
    assert picture_metrics.edge_step(pixels, hole) == pytest.approx(60 + 135 / 6)
    pixels[0, 0] = pixels[4, 5] = 255  # not at the edge
    assert picture_metrics.edge_step(pixels, hole) == pytest.approx(60 + 135 / 6)


def test_what_is_changed_outside_the_hole_is_noticed():
    pixels = picture(1)
    hole = np.zeros(pixels.shape[:2], np.bool_)
    hole[50:70, 30:60] = True
    made = pixels.copy()
    made[hole] = 0
    assert picture_metrics.known_change(pixels, made, hole) == (0, 0.0)
    made[0, 0] = pixels[0, 0] ^ 255
    most, mean = picture_metrics.known_change(pixels, made, hole)
    change = np.abs(made[0, 0].astype(int) - pixels[0, 0])
    assert (most, mean) == (change.max(), pytest.approx(change.sum() / (3 * (hole.size - hole.sum()))))


@pytest.mark.parametrize("name", ["box:30", "strokes:6"])
@pytest.mark.parametrize("baseline", sorted(baselines.available().keys() - baselines.OF_WHOLE_PICTURE))
def test_baselines_fill_the_part_around_a_hole_as_they_fill_the_whole_picture(name, baseline):
    pixels = picture(3, 400)
    hole = masks.draw_at_own_size("b", parse(name), pixels.shape[:2])
    fill, at = baselines.available()[baseline], picture_metrics.around(hole)
    whole = fill(given(pixels, hole), hole)[at]
    assert (fill(given(pixels, hole)[at].copy(), hole[at])[hole[at]] == whole[hole[at]]).all()
