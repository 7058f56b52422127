"""The baselines: how they fill a hole, which images they are measured on, and which of them is the best."""

import numpy as np
import pytest
from skimage.restoration import inpaint_biharmonic

from faceae import storage
from faceae.data.cache import Blocks
from faceae.data.sources import Entry
from faceae.errors import InputError
from faceae.evaluation import baselines, pca

RNG = np.random.default_rng(0)


def picture(height, width):
    """A smooth picture with noise, whose darkest and brightest pixels are in two corners."""
    y, x = np.mgrid[:height, :width]
    drawn = (120 + 60 * np.sin(y / 9) * np.cos(x / 13))[..., None] * [1, 0.9, 0.7]
    drawn = (drawn + RNG.normal(0, 8, drawn.shape)).clip(0, 255).astype(np.uint8)
    drawn[0, 0], drawn[-1, -1] = 0, 255
    return drawn


def hole(height, width, *boxes):
    mask = np.zeros((height, width), np.bool_)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def given(original, mask):
    return np.where(mask[..., None], np.uint8(0), original)


@pytest.mark.parametrize(
    "mask",
    [
        hole(60, 60, (20, 35, 22, 37)),
        hole(60, 60, (0, 12, 48, 60)),
        hole(60, 60, (2, 9, 0, 60)),
        hole(60, 60, (30, 60, 0, 60)),
        hole(60, 60, (1, 59, 1, 8), (1, 59, 52, 59)),
        hole(60, 60, (20, 26, 20, 26), (28, 33, 27, 40), (50, 55, 3, 9)),
        hole(40, 90, (0, 40, 70, 80)),
    ],
    ids=["middle", "corner", "near three edges", "half", "near four edges", "several", "wide picture"],
)
def test_biharmonic_is_scikit_images_on_the_whole_picture(mask):
    original = picture(*mask.shape)
    whole = inpaint_biharmonic(given(original, mask), mask, channel_axis=-1)
    np.testing.assert_array_equal(
        baselines.biharmonic(given(original, mask), mask), (255 * whole).round().astype(np.uint8)
    )


@pytest.mark.parametrize("shape", [(48, 48), (40, 70), (70, 40)])
def test_every_baseline_fills_pictures_of_any_shape_and_keeps_what_is_known(shape):
    original, mask = picture(*shape), hole(*shape, (3, 20, 0, 11), (30, 38, 25, 38))
    fills = baselines.available(pca.fit(faces(20)))
    assert list(fills) == ["black", "mean", "telea", "navier_stokes", "biharmonic", "pca"]
    for name, fill in fills.items():
        filled = fill(given(original, mask), mask)
        assert filled.dtype == np.uint8, name
        np.testing.assert_array_equal(filled[~mask], original[~mask], name)
        assert name == "black" or filled[mask].any(1).all(), name


def faces(count, seed=1):
    """Faces that are Gaussian in 6 dimensions, as `pca.fit` takes them, without noise."""
    directions = np.random.default_rng(7).normal(0, 1, (6, 3 * pca.SIDE**2))
    weights = np.random.default_rng(seed).normal(0, 12, (count, 6))
    return (128 + weights @ directions / 6**0.5).round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted():
    return pca.fit(faces(300))


def as_picture(face):
    return face.reshape(3, pca.SIDE, pca.SIDE).transpose(1, 2, 0)


def test_pca_finds_the_hidden_half_of_faces_that_are_gaussian(fitted):
    mask = hole(pca.SIDE, pca.SIDE, (0, 32, 0, 16))
    for face in faces(10, seed=2):
        original = as_picture(face)
        error = fitted.fill(given(original, mask), mask)[mask].astype(int) - original[mask]
        assert np.abs(error).max() <= 2
        assert np.abs(baselines.mean(given(original, mask), mask)[mask].astype(int) - original[mask]).max() > 20


def test_pca_draws_the_mean_face_where_everything_is_hidden_or_a_single_face_is_known(fitted):
    everything = np.ones((64, 64), np.bool_)
    for model in (fitted, pca.fit(faces(1))):
        filled = model.fill(np.zeros((64, 64, 3), np.uint8), everything)
        small = model.mean.reshape(3, pca.SIDE, pca.SIDE).permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(filled.reshape(32, 2, 32, 2, 3).mean((1, 3)), small, atol=12)


def test_pca_keeps_the_directions_of_largest_variance():
    """Compared with the eigenvectors of the covariance matrix of the faces and their mirror images."""
    values = faces(300)[:60].astype(np.float64) / 255
    fitted = pca.fit(faces(300)[:60])
    mirrored = values.reshape(-1, 3, pca.SIDE, pca.SIDE)[..., ::-1].reshape(60, -1)
    both = np.concatenate([values, mirrored]) - np.concatenate([values, mirrored]).mean(0)
    variance = np.linalg.svd(both, compute_uv=False) ** 2 / 120
    left_over = variance[30:].sum() / (3 * pca.SIDE**2 - 30)
    components = (fitted.levels * fitted.scale).double().numpy()
    np.testing.assert_allclose((components**2).sum(0)[:12], variance[:12] - left_over, rtol=0.02)
    np.testing.assert_allclose(fitted.mean, np.concatenate([values, mirrored]).mean(0), atol=1e-6)


def test_the_same_faces_give_the_same_file_and_a_saved_pca_fills_as_before(tmp_path):
    fitted = pca.fit(faces(40))
    assert fitted.to_bytes() == pca.fit(faces(40)).to_bytes()
    assert pca.read(str(tmp_path)) is None
    storage.write(str(tmp_path / pca.FILE), fitted.to_bytes())
    original, mask = picture(40, 40), hole(40, 40, (5, 20, 5, 20))
    saved = pca.read(str(tmp_path))
    np.testing.assert_array_equal(saved.fill(given(original, mask), mask), fitted.fill(given(original, mask), mask))


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content.replace(b"noise", b"voice")])
def test_a_damaged_pca_is_an_error_of_one_line(tmp_path, damage):
    storage.write(str(tmp_path / pca.FILE), damage(pca.fit(faces(4)).to_bytes()))
    with pytest.raises(InputError, match=r"pca\.safetensors: is damaged .*; delete it"):
        pca.read(str(tmp_path))


def test_a_pca_is_small_whatever_the_size_of_the_images():
    shrunk = pca.shrink([picture(256, 256)] * 2)
    assert shrunk.shape == (2, 3 * 32 * 32)
    np.testing.assert_allclose(as_picture(shrunk[0]), picture_mean(picture(256, 256)), atol=12)


def picture_mean(pixels):
    return pixels.reshape(32, 8, 32, 8, 3).mean((1, 3))


def test_baselines_are_measured_on_all_of_few_images_and_on_a_sample_of_many():
    entries = [Entry(f"{number:05}.png", "folder") for number in range(3000)]
    small, half = (baselines.chosen(entries, hidden) for hidden in (784, 8192))
    assert (len(small), len(half)) == (1000, 122)
    assert half < small
    assert small == baselines.chosen(entries[::-1], 784)
    assert len(baselines.chosen(entries[:900], 784)) == 900
    assert len(baselines.chosen(entries, 250_000)) == 50


def test_the_first_images_are_those_of_the_list_in_whatever_blocks_they_lie():
    rows = [np.array([0, 2], np.int32), np.array([1], np.int32), np.array([0], np.int32)]
    found = Blocks(["a", "b", "c"], rows, np.array([3, 0, 5, 1], np.int32)).first(2)
    assert found.refs == ["a", "c"]
    assert [mine.tolist() for mine in found.usable] == [[2], [0]]
    assert found.source_index.tolist() == [0, 1]


def test_small_blocks_are_taken_together():
    rows = [np.arange(count) for count in (3, 2, 4, 9, 1)]
    parts = Blocks(list("abcde"), rows).portions(5)
    assert [(part.refs, len(part)) for part in parts] == [(["a", "b"], 5), (["c", "d"], 13), (["e"], 1)]
    assert [len(part) for part in Blocks(["a"], [np.arange(3)]).portions(5)] == [3]


def test_the_best_baseline_is_the_one_with_the_lowest_composite_error():
    measured = {"black": {"composite_mse": 0.3}, "telea": {"composite_mse": 0.1}, "pca": {"composite_mse": 0.2}}
    assert baselines.best(measured) == "telea"
