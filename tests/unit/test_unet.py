"""What the U-Net on a window adds to; without Ray."""

import dataclasses

import pytest
import torch
from networks import tiny

from faceae import models
from faceae.models.membrane import extend


def silent(start):
    """A network that draws nothing."""
    settings = tiny("unet", 64)[1]
    network = models.build(dataclasses.replace(settings, model=dataclasses.replace(settings.model, start=start)))
    torch.nn.init.zeros_(network.leave[1].weight)
    torch.nn.init.zeros_(network.leave[1].bias)
    return network.eval()


@pytest.fixture
def given():
    """Images with a small hole, a hole that is too large for the window, and two strokes across the frame."""
    mask = torch.zeros(3, 1, 64, 64)
    mask[0, :, 20:26, 30:38] = 1
    mask[1, :, 5:50, 10:60] = 1
    mask[2, :, 8:12] = mask[2, :, :, 40:43] = 1
    torch.manual_seed(0)
    return torch.rand(3, 3, 64, 64) * (1 - mask), mask


def test_from_a_membrane_it_adds_to_the_known_pixels_at_the_frames_own_resolution(given):
    images, mask = given
    restored = silent("membrane")(images, mask)
    torch.testing.assert_close(restored, extend(images, 1 - mask, iterations=2), atol=0.02, rtol=0)  # mirrored, too
    assert torch.equal(restored * (1 - mask), images)


def test_from_the_mean_it_adds_to_one_colour(given):
    images, mask = given
    restored = silent("mean")(images, mask)
    hole = restored[1][:, mask[1, 0] > 0]
    assert hole.std(1).max() < 1e-3
    assert torch.equal(restored[0, :, :, 60:], images[0, :, :, 60:])  # outside the window


def test_windows_of_a_picture_are_drawn_from_the_same_start(given):
    images, mask = (each[1:] for each in given)
    network = silent("membrane")
    grid = torch.zeros(2, 64, 64, 2)
    drawn = network.draw(images, 1 - mask, grid, network.face(images, mask))
    torch.testing.assert_close(drawn, extend(images, 1 - mask, iterations=2))
