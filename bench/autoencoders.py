"""Autoencoders beside a PCA of as many numbers: how well they rebuild faces, and what faces they draw at random.

    pip install --no-deps --constraint constraints.txt --requirement bench/sharpness.txt
    python -m bench.autoencoders out/vae/model out/plain/model --source lfw128 --picture drawn.png

Takes the validation images of a folder. The PCA is fitted to the training images at the models' size, once for each
number of latent numbers. Random faces have latent vectors from a standard normal distribution for a variational
autoencoder, and for the others from the normal distribution with the mean and the covariance of the training images'
vectors. KID-Lite0 is explained in `bench.sharpness`; here it sees whole images. Bits are an upper bound, see
`faceae.metrics.bits_per_value`.

Pythae's reproducibility table (Chadebec et al., 2022, arxiv.org/abs/2206.08309) has such rows for CelebA at 64x64, with
FID on Inception's features and 162,770 training images: its numbers cannot be compared with these.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

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
    table = Table("", "numbers", "MSE", "PSNR, dB", "KL, nats", "bits", "KID rebuilt", "KID random")
    table.add_row("originals", "", "0", "", "", "", f"{distance(val):.1f}", "")
    drawn = {"originals": val[:SHOWN]}
    for uri in arguments.model:
        network = models.load(uri).network
        assert isinstance(network, models.ArticleAutoencoder)
        numbers = encode(network, train[:1]).shape[1]
        for name, (rebuilt, random, nats) in ((uri, used(network, train, val)), ("PCA", linear(train, val, numbers))):
            error = (rebuilt - val).square().mean((1, 2, 3))
            told = ["", ""]
            if nats is not None:
                told = [f"{nats:.1f}", f"{bits_per_value(error.mean().item(), nats, val[0].numel()):.2f}"]
            errors = f"{error.mean():.5f}", f"{psnr_db(error).mean():.2f}"
            table.add_row(name, str(numbers), *errors, *told, f"{distance(rebuilt):.1f}", f"{distance(random):.1f}")
            drawn[f"{name} {numbers}"] = random[:SHOWN]
    out.print(table)
    if arguments.picture:
        draw_rows({name: as_pixels(images) for name, images in drawn.items()}).save(arguments.picture)


Used = tuple[Tensor, Tensor, float | None]
"""Images rebuilt, as many random ones, (N, 3, S, S), and the mean divergence in nats of a variational autoencoder."""


@torch.inference_mode()
def used(network: models.ArticleAutoencoder, train: Tensor, val: Tensor) -> Used:
    """Returns what an autoencoder makes of images."""
    rebuilt, nats = decode(network, encode(network, val)), None
    if isinstance(network, models.VariationalAutoencoder):
        random = torch.randn(len(val), encode(network, val[:1]).shape[1], generator=torch.Generator().manual_seed(0))
        nats = torch.cat([network.divergence(part) for part in val.split(BATCH)]).mean().item()
    else:
        random = normal(encode(network, train), len(val), torch.Generator().manual_seed(0))
    return rebuilt, decode(network, random), nats


def linear(train: Tensor, val: Tensor, numbers: int) -> Used:
    """Returns what a PCA of the training images makes of images with so many numbers."""
    components, mean = pca(train, numbers)
    coded, trained = ((images.flatten(1) - mean) @ components.T for images in (val, train))
    made = (
        (numbers @ components + mean).clamp(0, 1).view_as(val)
        for numbers in (coded, normal(trained, len(val), torch.Generator().manual_seed(0)))
    )
    rebuilt, random = made
    return rebuilt, random, None


if __name__ == "__main__":
    main()
