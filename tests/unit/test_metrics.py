"""The metrics of a restored image, and the baselines."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torchmetrics.functional.image import structural_similarity_index_measure

from faceae import metrics
from faceae.config import Mask
from faceae.corruption import masks
from faceae.data.batch import Batch
from faceae.data.synthetic import portrait
from faceae.evaluation import baselines


def images(count, seed):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def holes(count, box_size=8):
    drawn = masks.draw([str(i) for i in range(count)], Mask(size=box_size), seed=0, epoch=0, image_size=32)
    return torch.from_numpy(drawn)[:, None].float()


def test_values_match_their_definitions():
    output, original, mask = images(5, 0), images(5, 1), holes(5)
    values = metrics.per_example(output, original, mask)
    assert tuple(values) == metrics.NAMES
    for i in range(5):
        y, x, hole = output[i].numpy(), original[i].numpy(), mask[i, 0].numpy() > 0
        squared = (y - x) ** 2
        pasted = np.where(hole, y, x)
        expected = {
            "mse": squared.mean(),
            "psnr_db": -10 * np.log10(squared.mean()),
            "hole_mse": squared[:, hole].mean(),
            "hole_psnr_db": -10 * np.log10(squared[:, hole].mean()),
            "composite_mse": ((pasted - x) ** 2).mean(),
            "composite_psnr_db": -10 * np.log10(((pasted - x) ** 2).mean()),
            "rgb_argmax_accuracy": (y.argmax(0) == x.argmax(0)).mean(),
        }
        for name, value in expected.items():
            assert values[name][i].item() == pytest.approx(value, rel=1e-5), name


def test_of_equal_channels_the_first_counts_as_the_largest():
    shades = torch.cartesian_prod(*[torch.tensor([0.2, 0.6])] * 3).T.reshape(1, 3, 2, 4).repeat(1, 1, 8, 4)
    for original in (shades, shades.flip(1), shades.flip(2)):
        accuracy = metrics.per_example(shades, original, torch.ones(1, 1, 16, 16))["rgb_argmax_accuracy"]
        assert accuracy.item() == (shades.argmax(1) == original.argmax(1)).float().mean().item()


def test_an_exact_output_has_the_best_values_and_they_are_finite():
    original = images(3, 0)
    values = metrics.per_example(original, original, holes(3))
    assert values["composite_ssim"] == pytest.approx([1, 1, 1])
    assert values["psnr_db"] == pytest.approx([100, 100, 100])
    assert values["rgb_argmax_accuracy"].tolist() == [1, 1, 1]


def test_ssim_falls_only_with_the_error_inside_the_hole():
    original, mask = images(2, 0), holes(2)
    slight = metrics.per_example(original + 0.05 * mask, original, mask)["composite_ssim"]
    strong = metrics.per_example(original + 0.5 * mask, original, mask)["composite_ssim"]
    outside = metrics.per_example(original + 0.5 * (1 - mask), original, mask)["composite_ssim"]
    assert (strong < slight).all()
    assert outside == pytest.approx([1, 1])


def test_means_do_not_depend_on_the_batches():
    output, original, mask = images(11, 0), images(11, 1), holes(11)

    def means(cuts):
        sums = metrics.Sums()
        for start, end in zip([0, *cuts], [*cuts, 11], strict=True):
            part = metrics.Sums()
            part.add(metrics.per_example(output[start:end], original[start:end], mask[start:end]))
            sums.merge(part)
        assert sums.count == 11
        return sums.means()

    assert means([1, 8]) == pytest.approx(means([]), rel=1e-6)


@pytest.mark.parametrize("allowed", [True, False])
def test_metrics_are_computed_in_full_float32_whatever_training_allows(allowed):
    """The flags matter on GPUs only, but exist everywhere."""
    seen = []

    class Seen(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return func(*args, **(kwargs or {}))

    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    output, original, mask = images(1, 0), images(1, 1), holes(1)
    try:
        with Seen():
            metrics.per_example(output, original, mask)
        assert set(seen) == {(False, False)}
        with pytest.raises(IndexError):  # also after an error
            metrics.per_example(output, original, mask[0])
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (allowed, allowed)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_metrics_are_computed_in_full_float32_also_inside_autocast():
    given = images(3, 0), images(3, 1), holes(3)
    alone = metrics.per_example(*given)
    with torch.autocast("cpu", torch.bfloat16):
        inside = metrics.per_example(*given)
    assert all(inside[name].equal(alone[name]) for name in metrics.NAMES)


def batch_of(count=6, size=64, box=14):
    pixels = np.stack([portrait(i, size) for i in range(count)])
    drawn = masks.draw([str(i) for i in range(count)], Mask(size=box), seed=0, epoch=0, image_size=size)
    return Batch(pixels, masks.pack(drawn), count), drawn


def test_baselines_change_only_the_hole_and_rank_as_expected():
    batch, drawn = batch_of()
    for fill in baselines.available().values():
        for image, hole in zip(batch.pixels, drawn, strict=True):
            given = np.where(hole[..., None], np.uint8(0), image)
            filled = fill(given, hole)
            assert (filled[~hole] == image[~hole]).all()
            assert (given[hole] == 0).all()  # the input is not changed
    measured = {name: sums.means()["hole_mse"] for name, sums in baselines.measure([batch]).items()}
    assert measured["telea"] < measured["mean"] < measured["black"]


def test_the_error_of_black_is_the_energy_of_the_hidden_pixels():
    batch, drawn = batch_of()
    energy = np.mean([(image[hole] / 255.0) ** 2 for image, hole in zip(batch.pixels, drawn, strict=True)])
    means = baselines.measure([batch])["black"].means()
    assert means["hole_mse"] == pytest.approx(energy, rel=1e-5)
    assert means["mse"] == pytest.approx(energy * (14 / 64) ** 2, rel=1e-5)
    assert means["mse"] == means["composite_mse"]


def test_baselines_on_real_faces_are_near_earlier_measurements(shared):
    """MSE over the frame in design.md, on 113 FFHQ thumbnails: black 0.0132, mean 0.0028, Telea 0.0009 to 0.0011."""
    from faceae.data.images import decode

    paths = sorted((shared / "ffhq").rglob("*.png"))
    pixels = np.stack([decode(path.read_bytes(), 128) for path in paths])
    drawn = masks.draw([path.name for path in paths], Mask(size=28), seed=0, epoch=0, image_size=128)
    measured = baselines.measure([Batch(pixels, masks.pack(drawn), len(paths))])
    assert 0.010 < measured["black"].means()["mse"] < 0.016
    assert 0.002 < measured["mean"].means()["mse"] < 0.004
    assert 0.0006 < measured["telea"].means()["mse"] < 0.0014


@pytest.mark.parametrize("size", [24, 64])
def test_ssim_computed_around_the_hole_equals_that_of_the_whole_frame(size):
    torch.manual_seed(3)
    original, output = torch.rand(2, 12, 3, size, size)
    names = [str(number) for number in range(12)]
    for settings in (Mask(size=6), Mask(size=3, count=2), Mask(kind=("half",)), Mask(kind=("border",), size=4)):
        drawn = masks.draw(names, settings, seed=0, epoch=0, image_size=size)
        mask = torch.from_numpy(drawn)[:, None].float()
        pasted = metrics.composite(output, original, mask)
        expected = structural_similarity_index_measure(pasted, original, data_range=1.0, reduction="none")
        found = metrics.per_example(output, original, mask)["composite_ssim"]
        assert torch.allclose(found, expected.reshape(-1), atol=1e-6)
