"""Thin and small holes, filled by the network that comes with faceae; without Ray."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from faceae.models.local import LocalUnet, load_local
from faceae.models.membrane import extend
from faceae.models.thin import fill_thin

CPU = torch.device("cpu")


def bars(height, width, angle):
    """Bars of two colours with soft edges, turned by an angle in degrees."""
    rows, columns = np.mgrid[:height, :width]
    turned = columns * np.cos(np.radians(angle)) + rows * np.sin(np.radians(angle))
    pixels = np.where((turned // 40 % 2 == 0)[..., None], (200, 140, 110), (60, 50, 40)).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)))


def scratch(height, width, thickness):
    hole = np.zeros((height, width), np.bool_)
    hole[height // 2 : height // 2 + thickness, 10:-10] = True
    return hole


def filled(pixels, hole, thin=None):
    restored = np.where(hole[..., None], np.uint8(0), pixels)
    fill_thin([restored], [hole], [hole if thin is None else thin], CPU)
    return restored


@pytest.mark.parametrize("thickness", [3, 8, 20])
@pytest.mark.parametrize("angle", [20, 45])
def test_edges_go_on_through_a_scratch(thickness, angle):
    pixels, hole = bars(300, 400, angle), scratch(300, 400, thickness)
    known = torch.from_numpy(~hole)[None, None].float()
    smooth = 255 * extend(torch.tensor(pixels).permute(2, 0, 1)[None] / 255, known)[0].permute(1, 2, 0).numpy()
    restored = filled(pixels, hole)
    assert (restored[~hole] == pixels[~hole]).all()
    error, smooth_error = (np.square(each[hole].astype(float) - pixels[hole]).mean() for each in (restored, smooth))
    assert error < 0.5 * smooth_error


def test_what_is_not_thin_stays_as_it_is_and_counts_as_unknown():
    pixels, thin = bars(200, 200, 30), scratch(200, 200, 4)
    hole = thin.copy()
    hole[40:110, 60:120] = True  # meets the scratch
    block = hole & ~thin
    restored = filled(pixels, hole, thin)
    assert not restored[block].any()
    brighter = np.where(block[..., None], np.uint8(255), pixels)
    assert (filled(brighter, hole, thin)[thin] == restored[thin]).all()


def test_a_result_does_not_depend_on_what_is_restored_beside_it():
    sizes = [(300, 1400, 3), (40, 30, 2), (64, 64, 1), (1400, 300, 9)]
    pictures, holes = [bars(*size[:2], 25) for size in sizes], [scratch(*size) for size in sizes]
    together = [np.where(hole[..., None], np.uint8(0), pixels) for pixels, hole in zip(pictures, holes, strict=True)]
    fill_thin(together, holes, holes, CPU)
    for pixels, hole, restored in zip(pictures, holes, together, strict=True):
        assert np.abs(filled(pixels, hole).astype(int) - restored).max() <= 1  # rounding in batches of another size


def test_the_network_returns_what_is_known_unchanged():
    torch.manual_seed(0)
    colours, known = torch.rand(2, 3, 64, 64), (torch.rand(2, 1, 64, 64) > 0.3).float()
    with torch.inference_mode():
        for network in (LocalUnet(), load_local(CPU)):
            drawn = network(colours * known, known)
            assert drawn.isfinite().all()
            assert ((drawn == colours) | (known == 0)).all()
