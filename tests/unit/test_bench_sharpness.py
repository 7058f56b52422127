"""What `python -m bench.sharpness` measures."""

import pytest
import torch

from bench import sharpness
from faceae.training.transfer import DeviceBatch


def test_only_pairs_of_neighbours_inside_the_hole_count():
    images, holes = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    holes[..., 10:20, 10:20] = 1
    images[..., 10:20, 10:20] = 0.5  # a step at the hole's edge
    assert sharpness.gradient(images, holes) == 0
    images[..., 15, 15] = 1.5
    assert sharpness.gradient(images, holes) == 4
    images[..., 40, 40] = 9
    assert sharpness.gradient(images, holes) == 4


def test_windows_are_cut_around_the_holes_to_the_pixel():
    original, mask = torch.rand(2, 3, 128, 128), torch.zeros(2, 1, 128, 128)
    mask[0, :, 50:78, 60:88] = 1
    mask[1, :, 100:128, :28] = 1
    data = DeviceBatch(original * (1 - mask), original, mask)
    cut = sharpness.windows(original, data)
    assert torch.equal(cut[0], original[0, :, 32:96, 42:106])
    assert torch.equal(cut[1], original[1, :, 64:, :64])


def test_blurred_windows_are_farther_from_the_originals():
    pytest.importorskip("efficientnet_lite_pytorch", reason="not installed; bench/sharpness.txt says what is needed")
    torch.manual_seed(0)
    originals = torch.rand(2 * sharpness.SUBSET, 3, 64, 64)
    distance = sharpness.kernel_distance(originals)
    blurred = torch.nn.functional.avg_pool2d(originals, 3, 1, 1)
    assert distance(blurred) > 10 * abs(distance(originals))
