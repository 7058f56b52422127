"""The nearest latent vectors, compared with all distances."""

import numpy as np
import pytest

from faceae.evaluation import neighbours


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(neighbours, "_QUERIES", 4)
    monkeypatch.setattr(neighbours, "_CHUNK", 7)


def vectors(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)


@pytest.mark.parametrize("same", [False, True])
def test_neighbours_are_those_of_a_full_sort(same):
    latents = vectors(40, 0)
    queries = latents if same else vectors(9, 1)
    apart = np.linalg.norm(queries[:, None] - latents, axis=2)
    if same:
        np.fill_diagonal(apart, np.inf)
    rows, distances = neighbours.nearest(queries, latents, 6, same=same)
    assert (rows == apart.argsort(1)[:, :6]).all()
    np.testing.assert_allclose(distances, np.sort(apart, 1)[:, :6], rtol=1e-3)


def test_no_more_are_found_than_there_are():
    latents = vectors(3, 0)
    assert neighbours.nearest(vectors(2, 1), latents, 10)[0].shape == (2, 3)
    rows, _ = neighbours.nearest(latents, latents, 10, same=True)
    assert [set(row) for row in rows.tolist()] == [{1, 2}, {0, 2}, {0, 1}]
