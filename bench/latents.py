"""What latent vectors are worth: as a code of a face, and for finding the same person.

    python -m bench.latents out/article/model out/restore/model --source lfw128

Compression: each validation image as the latent vector of an autoencoder, every number in 8 bits between its least and
its largest value in training, and decoded again. Beside it as many numbers of a PCA of the training images, coded in
the same way, and WebP and JPEG of at most as many bytes: whichever size and quality is best. Of JPEG only the scan
counts, since all pictures share its tables. Only the network `article` has a decoder.

Retrieval: of the images of people who have several, the share whose nearest image is of the same one (LFW's names).
"""

from __future__ import annotations

import argparse
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.table import Table
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from bench.settings import SIZE, pillow
from faceae import models
from faceae.config import Data
from faceae.console import out
from faceae.data.sources import Entry
from faceae.data.split import Split
from faceae.evaluation.neighbours import nearest
from faceae.metrics import psnr_db
from faceae.models import ArticleAutoencoder

BATCH = 64
SIDES, QUALITIES = (128, 96, 64, 48, 40, 32, 24, 16), range(0, 96, 5)
_SCAN = b"\xff\xda"  # the marker before a JPEG's data


def main() -> None:
    """Encodes, decodes, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", help="saved models, such as out/article/model")
    parser.add_argument("--source", required=True, help="a folder of images, split as in training")
    arguments = parser.parse_args()
    split = Split(Data(source=(arguments.source,)))
    train, val = read(split.train), read(split.val)
    names, everything = [entry.image_id for entry in split.train + split.val], torch.cat([train, val])
    people = Table("", "nearest image is of the same person")
    small = F.adaptive_avg_pool2d(everything, 32).flatten(1)
    people.add_row("pixels, 32x32", f"{same_person(small, names):.1%}")
    for uri in arguments.model:
        network = models.load(uri).network
        latents = encode(network, everything)
        people.add_row(f"{uri}: {latents.shape[1]} numbers", f"{same_person(latents, names):.1%}")
        if isinstance(network, ArticleAutoencoder):
            out.print(compression(uri, network, latents, train, val))
    out.print(people)


def read(entries: Sequence[Entry]) -> Tensor:
    """Returns images, (N, 3, S, S) float32 in [0, 1]."""
    pixels = np.stack([pillow(Path(entry.uri).read_bytes(), SIZE) for entry in entries])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
def encode(network: nn.Module, images: Tensor) -> Tensor:
    """Returns the latent vectors of whole faces."""
    return torch.cat([network.encode(part, torch.zeros_like(part[:, :1])) for part in images.split(BATCH)])  # type: ignore[operator]


def same_person(vectors: Tensor, names: Sequence[str]) -> float:
    """Returns how often the nearest image is of the same person, among those of whom there are several images."""
    people = np.array([re.sub(r"_\d+\.\w+$", "", name) for name in names])
    found, _ = nearest(vectors.numpy(), vectors.numpy(), 1, same=True)
    several = Counter(people.tolist())
    asked = np.array([several[person] > 1 for person in people])
    return float((people[found[:, 0]] == people)[asked].mean())


def compression(uri: str, network: ArticleAutoencoder, latents: Tensor, train: Tensor, val: Tensor) -> Table:
    """Returns the table of codes of as many bytes as a latent vector has numbers."""
    size = latents.shape[1]
    table = Table(f"{size} bytes an image", "PSNR, dB", "SSIM", "bytes, mean")
    decoded = decode(network, eight_bits(latents[len(train) :], latents[: len(train)]))
    components, mean = pca(train, size)
    numbers = [(images.flatten(1) - mean) @ components.T for images in (val, train)]
    linear = (eight_bits(*numbers) @ components + mean).clamp(0, 1).view_as(val)
    coded = {name: [best(image, name, size) for image in val] for name in ("WEBP", "JPEG")}
    for name, images, sizes in (
        (uri, decoded, [size]),
        ("PCA", linear, [size]),
        *(
            (name, torch.stack([each for each, _ in found]), [each for _, each in found])
            for name, found in coded.items()
        ),
    ):
        error = (images - val).square().mean((1, 2, 3))
        ssim = structural_similarity_index_measure(images, val, data_range=1.0)
        table.add_row(name, f"{psnr_db(error).mean():.2f}", f"{ssim:.3f}", f"{np.mean(sizes):.0f}")
    return table


@torch.inference_mode()
def decode(network: ArticleAutoencoder, latents: Tensor) -> Tensor:
    """Returns the faces of latent vectors."""
    return torch.cat([network.decode(part) for part in latents.split(BATCH)])


def eight_bits(vectors: Tensor, training: Tensor) -> Tensor:
    """Returns vectors with each number rounded to one of 256 steps between its extremes in training."""
    least, most = training.amin(0), training.amax(0)
    step = (most - least).clamp_min(1e-9) / 255
    return ((vectors - least) / step).round().clamp(0, 255) * step + least


def pca(images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the first principal components of images, (count, 3 * S * S), and their mean."""
    flat = images.flatten(1)
    mean = flat.mean(0)
    centred = flat - mean
    _, vectors = torch.linalg.eigh(centred @ centred.T)
    return F.normalize(vectors[:, -count:].T @ centred, dim=1), mean


def best(image: Tensor, form: str, size: int) -> tuple[Tensor, int]:
    """Returns an image as the best file of at most `size` bytes shows it, and its bytes."""
    pixels = Image.fromarray(image.mul(255).round().byte().permute(1, 2, 0).numpy())
    found: tuple[float, Tensor, int] | None = None
    for side in SIDES:
        reduced = pixels.resize((side, side), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            content = encoded(reduced, form, quality)
            taken = len(content) - (content.index(_SCAN) if form == "JPEG" else 0)
            if taken > size:
                break
            again = Image.open(io.BytesIO(content)).convert("RGB").resize(pixels.size, Image.Resampling.BICUBIC)
            shown = torch.from_numpy(np.array(again)).permute(2, 0, 1).float() / 255
            error = (shown - image).square().mean().item()
            if found is None or error < found[0]:
                found = error, shown, taken
    assert found, f"no {form} of {SIDES[-1]}x{SIDES[-1]} has {size} bytes"
    return found[1:]


def encoded(image: Image.Image, form: str, quality: int) -> bytes:
    """Returns an image as a JPEG or WebP file."""
    file = io.BytesIO()
    image.save(file, form, quality=quality, method=6) if form == "WEBP" else image.save(file, form, quality=quality)
    return file.getvalue()


if __name__ == "__main__":
    main()
