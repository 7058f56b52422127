"""Autoencoders beside a PCA of as many numbers: how well they rebuild faces, and what faces they draw at random.

    pip install --no-deps --constraint constraints.txt --requirement bench/sharpness.txt
    python -m bench.autoencoders out/vae/model out/plain/model --source lfw128 --picture drawn.png

Takes the validation images of a folder. The PCA is fitted to the training images at the models' size, once for each
number of latent numbers. Random faces have latent vectors from the normal distribution with the mean and the covariance
of the training images' vectors (as in Ghosh et al., 2020, arxiv.org/abs/1903.12436); of a variational autoencoder also
from the standard normal distribution, as it was trained for. KID-Lite0 is explained in `bench.sharpness`; here it sees
whole images. Bits are an upper bound, see `faceae.metrics.bits_per_value`.

Pythae's reproducibility table (Chadebec et al., 2022, arxiv.org/abs/2206.08309) has such rows for CelebA at 64x64, with
FID on Inception's features and 162,770 training images: its numbers cannot be compared with these.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from rich.table import Table
from torch import Tensor

from bench.latents import decode, encode, pca, read
from bench.sharpness import kernel_distance
from faceae import models
from faceae.config import Data
from faceae.console import out
from faceae.data.split import Split
from faceae.metrics import bits_per_value, psnr_db
from faceae.reporting.contact_sheet import as_pixels, draw_rows
from faceae.reporting.latent_sheet import normal

BATCH, SHOWN = 64, 10


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", help="saved models of --model.name vae or article")
    parser.add_argument("--source", required=True, help="a folder of images, split as in training")
    parser.add_argument("--picture", type=Path, help="where to draw some random faces of each")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Metric `Kernel")  # says that it keeps the features: of some hundred images
    split = Split(Data(source=(arguments.source,)))
    train, val = read(split.train), read(split.val)
    distance = kernel_distance(val)
    table = Table("", "numbers", "MSE", "PSNR, dB", "KL, nats", "bits", "KID rebuilt", "KID fitted", "KID standard")
    table.add_row("originals", "", "0", "", "", "", f"{distance(val):.1f}", "", "")
    drawn, fitted = {"originals": val[:SHOWN]}, set[int]()
    for uri in arguments.model:
        network = models.load(uri).network
        assert isinstance(network, models.ArticleAutoencoder)
        numbers = encode(network, train[:1]).shape[1]
        compared = {uri: used(network, train, val)}
        if numbers not in fitted:
            compared["PCA"] = linear(train, val, numbers)
            fitted.add(numbers)
        for name, made in compared.items():
            error = (made.rebuilt - val).square().mean((1, 2, 3))
            told = ["", ""]
            if made.nats is not None:
                told = [f"{made.nats:.1f}", f"{bits_per_value(error.mean().item(), made.nats, val[0].numel()):.2f}"]
            errors = f"{error.mean():.5f}", f"{psnr_db(error).mean():.2f}"
            distances = (f"{distance(images):.1f}" for images in (made.rebuilt, *made.random.values()))
            table.add_row(name, str(numbers), *errors, *told, *distances)
            drawn |= {f"{name} {numbers}, {how}": images[:SHOWN] for how, images in made.random.items()}
    out.print(table)
    if arguments.picture:
        draw_rows({name: as_pixels(images) for name, images in drawn.items()}).save(arguments.picture)


class Made(NamedTuple):
    """What an autoencoder makes of N images.

    Attributes:
        rebuilt: (N, 3, S, S).
        random: as many random images, (N, 3, S, S), by the distribution of their latent vectors: "fitted" and, of a
            variational autoencoder, "standard".
        nats: the mean divergence of a variational autoencoder.
    """

    rebuilt: Tensor
    random: dict[str, Tensor]
    nats: float | None = None


@torch.inference_mode()
def used(network: models.ArticleAutoencoder, train: Tensor, val: Tensor) -> Made:
    """Returns what an autoencoder makes of images."""
    coded = encode(network, val)
    rebuilt = decode(network, coded)
    fitted = normal(encode(network, train), len(val), torch.Generator().manual_seed(0))
    random = {"fitted": decode(network, fitted)}
    if not isinstance(network, models.VariationalAutoencoder):
        return Made(rebuilt, random)
    standard = torch.randn(coded.shape, generator=torch.Generator().manual_seed(0))
    nats = torch.cat([network.divergence(part) for part in val.split(BATCH)]).mean().item()
    return Made(rebuilt, random | {"standard": decode(network, standard)}, nats)


def linear(train: Tensor, val: Tensor, numbers: int) -> Made:
    """Returns what a PCA of the training images makes of images with so many numbers."""
    components, mean = pca(train, numbers)
    coded, trained = ((images.flatten(1) - mean) @ components.T for images in (val, train))
    random = normal(trained, len(val), torch.Generator().manual_seed(0))
    rebuilt, drawn = ((each @ components + mean).clamp(0, 1).view_as(val) for each in (coded, random))
    return Made(rebuilt, {"fitted": drawn})


if __name__ == "__main__":
    main()
