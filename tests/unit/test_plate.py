"""Continuation into a hole as by a thin plate; without Ray."""

import numpy as np
import pytest
import torch

from faceae.models.membrane import extend
from faceae.models.plate import bend


def known_around(side, top, bottom, left, right):
    known = torch.ones(1, 1, side, side)
    known[..., top:bottom, left:right] = 0
    return known


def laplacian(side):
    """The matrix that maps a picture, row by row, to the differences to its neighbours; the border repeats."""
    line = np.diag(np.full(side, -2.0)) + np.eye(side, k=1) + np.eye(side, k=-1)
    line[0, 0] = line[-1, -1] = -1
    return np.kron(line, np.eye(side)) + np.kron(np.eye(side), line)


def plate(values, known):
    """Solves for the least sum of squared Laplacians directly."""
    hole = (known == 0).ravel()
    bending = laplacian(len(values)) @ laplacian(len(values))
    right = -bending[np.ix_(hole, ~hole)] @ values.ravel()[~hole]
    return np.linalg.solve(bending[np.ix_(hole, hole)], right)


def wave(side):
    rows, columns = np.mgrid[:side, :side] / 32
    return torch.from_numpy(np.sin(3 * rows) * np.cos(2 * columns) + columns)[None, None].float()


@pytest.mark.parametrize(
    ("box", "tolerance"), [((10, 22, 8, 20), 0.01), ((13, 17, 4, 32), 0.01), ((0, 8, 0, 12), 0.12)]
)
def test_the_continuation_is_nearly_that_of_the_direct_solution(box, tolerance):
    """Less so in a corner of the picture; the values span 2.5."""
    values, known = wave(32), known_around(32, *box)
    filled = bend(values, known)
    assert torch.equal(filled[known > 0], values[known > 0])
    exact = plate(values[0, 0].double().numpy(), known[0, 0].numpy())
    off = filled[0, 0][known[0, 0] == 0].double().numpy() - exact
    assert np.sqrt((off**2).mean()) < tolerance


@pytest.mark.parametrize("side", [64, 40])
def test_a_slope_goes_on_better_than_as_a_membrane(side):
    known = known_around(side, 8, 20, 8, 20)
    values = wave(side)
    errors = [(fill(values, known) - values)[known == 0].square().mean() for fill in (bend, extend)]
    assert errors[0] < 0.1 * errors[1]


def test_what_is_in_the_hole_does_not_matter():
    known = known_around(32, 5, 20, 7, 18)
    values = torch.rand(2, 3, 32, 32)
    assert torch.equal(bend(values, known), bend(torch.where(known > 0, values, 7.0), known))


def test_images_without_a_hole_and_without_anything_known_stay_finite():
    values = torch.rand(1, 3, 32, 32)
    assert torch.equal(bend(values, torch.ones(1, 1, 32, 32)), values)
    assert not bend(values, torch.zeros(1, 1, 32, 32)).any()
