"""Smooth continuation into a hole; without Ray."""

import numpy as np
import pytest
import torch

from faceae.models.membrane import _AT_A_TIME, extend


def known_around(side, *boxes):
    known = torch.ones(1, 1, side, side)
    for top, bottom, left, right in boxes:
        known[..., top:bottom, left:right] = 0
    return known


def laplace(values, known):
    """Solves Laplace's equation in the hole directly, one equation for each of its pixels."""
    hole = known == 0
    number = {place: index for index, place in enumerate(zip(*hole.nonzero(), strict=True))}
    matrix, right = np.zeros((len(number), len(number))), np.zeros(len(number))
    for (row, column), index in number.items():
        for there in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if min(there) >= 0 and max(there) < len(hole):
                matrix[index, index] += 1
                if there in number:
                    matrix[index, number[there]] -= 1
                else:
                    right[index] += values[there]
    return np.linalg.solve(matrix, right)


@pytest.mark.parametrize("side", [64, 37, 128])
@pytest.mark.parametrize(
    ("box", "tolerance"), [((10, 30, 8, 28), 0.04), ((15, 18, 0, 37), 0.04), ((0, 12, 0, 20), 0.06)]
)
def test_the_continuation_is_nearly_that_of_laplaces_equation(side, box, tolerance):
    """Less so in a corner of the picture; the values span 1.5 and more."""
    known = known_around(side, box)
    rows, columns = np.mgrid[:side, :side] / side
    values = torch.from_numpy(np.sin(3 * rows) * np.cos(2 * columns) + columns)[None, None].float()
    filled = extend(values, known)
    assert torch.equal(filled[known > 0], values[known > 0])
    exact = laplace(values[0, 0].numpy(), known[0, 0].numpy())
    off = filled[0, 0][known[0, 0] == 0].numpy() - exact
    assert np.sqrt((off**2).mean()) < tolerance


def test_what_is_in_the_hole_does_not_matter():
    known = known_around(32, (5, 20, 7, 18))
    values = torch.rand(1, 3, 32, 32)
    assert torch.equal(extend(values, known), extend(torch.where(known > 0, values, 7.0), known))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_image_does_not_depend_on_how_many_are_continued_with_it(layout):
    """Also if they are more than a CPU continues at a time."""
    values = torch.rand(25, 3, 128, 128, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    assert values.numel() > _AT_A_TIME
    known = torch.cat([known_around(128, (number, 40 + number, 30, 90)) for number in range(25)])
    alone = [extend(*image, 2) for image in zip(values.split(1), known.split(1), strict=True)]
    assert torch.equal(extend(values, known, 2), torch.cat(alone))
    assert extend(values[:0], known[:0]).shape == (0, 3, 128, 128)


def test_a_constant_stays_constant_and_nothing_known_gives_zero():
    known = known_around(30, (3, 29, 2, 30))
    torch.testing.assert_close(extend(torch.full((1, 2, 30, 30), 0.3), known), torch.full((1, 2, 30, 30), 0.3))
    assert not extend(torch.ones(1, 2, 30, 30), torch.zeros(1, 1, 30, 30)).any()
