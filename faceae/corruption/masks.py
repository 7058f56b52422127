"""Draws masks: the places and shapes of holes.

With given settings a mask depends on (seed, epoch, image_id) and nothing else, so that the number of workers, the order
of the images, a retry or a resume cannot change it. True marks the hole: the pixels that are hidden from the network.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from faceae.config import Mask, PictureHole

VALIDATION_EPOCH = -1
"""The epoch number of validation masks. Their seed is 0, whatever the run's seed, so that runs can be compared."""

Masks = NDArray[np.bool_]
"""(N, image_size, image_size), True inside the hole."""


def uniform(image_ids: Sequence[str], *, seed: int, epoch: int, count: int) -> NDArray[np.float64]:
    """Returns random numbers for each image in one epoch: a hash of seed, epoch and id.

    Seeding a numpy generator for each image would take 16 us, a third of the time that gathering its pixels takes.

    Args:
        image_ids: ids of N images.
        seed: the run's seed.
        epoch: number of the epoch.
        count: how many numbers to draw for each image, at most 8. A different count gives different numbers.

    Returns:
        (N, count) float64 in [0, 1).
    """
    digests = b"".join(
        hashlib.blake2b(f"{seed}/{epoch}/{image_id}".encode(), digest_size=8 * count).digest() for image_id in image_ids
    )
    return (np.frombuffer(digests, "<u8").reshape(-1, count) >> np.uint64(11)) / 2.0**53


def kinds(image_ids: Sequence[str], settings: Mask, *, seed: int, epoch: int) -> list[str]:
    """Returns the kind of each image's mask, one of the settings' kinds at random."""
    if len(settings.kind) == 1:
        return [settings.kind[0]] * len(image_ids)
    chosen = uniform(image_ids, seed=seed, epoch=epoch, count=3)[:, 0] * len(settings.kind)
    return [settings.kind[number] for number in chosen.astype(int)]


def draw(
    image_ids: Sequence[str],
    settings: Mask,
    *,
    seed: int,
    epoch: int,
    image_size: int,
    library: NDArray[np.uint8] | None = None,
) -> Masks:
    """Draws the masks of a batch of images.

    Args:
        image_ids: ids of N images.
        settings: the mask settings.
        seed: the run's seed.
        epoch: number of the epoch.
        image_size: side of an image in pixels.
        library: the user's masks for the kind `image`, (M, image_size * image_size / 8) uint8, see `pack`.

    Returns:
        (N, image_size, image_size) bool, True inside the hole; every mask has a hole.
    """
    masks = np.zeros((len(image_ids), image_size, image_size), np.bool_)
    of_kind = np.array(kinds(image_ids, settings, seed=seed, epoch=epoch))
    for kind in dict.fromkeys(settings.kind):
        mine = np.flatnonzero(of_kind == kind)
        ids = [image_ids[number] for number in mine.tolist()]
        if kind == "image":
            assert library is not None
            places = uniform(ids, seed=seed, epoch=epoch, count=2)[:, 0] * len(library)
            masks[mine] = unpack(library[places.astype(int)], image_size)
        elif ids:
            alone = len(ids) == len(masks)
            drawn = masks if alone else np.zeros((len(ids), image_size, image_size), np.bool_)
            _DRAW[kind](drawn, ids, settings, seed, epoch)
            if not alone:
                masks[mine] = drawn
    return masks


def boxes(
    image_ids: Sequence[str], settings: Mask, *, seed: int, epoch: int, image_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws one square box for each image, uniformly over the settings' sizes and all places where it fits.

    Returns:
        The top-left corners, (N, 2) int64, rows and columns in pixels from 0 to image_size - side inclusive; and the
        sides, (N,) int64, in pixels.
    """
    sides = _sizes(image_ids, settings, seed, epoch)
    return _corners(image_ids, sides, (image_size, image_size), seed, epoch), sides


def _corners(
    ids: Sequence[str], sides: NDArray[np.int64], shape: tuple[int, int], seed: int, epoch: int
) -> NDArray[np.int64]:
    """Returns (N, 2) int64, the top-left corners of squares of these sides, uniform over all places in (H, W)."""
    places = np.array(shape) - sides[:, None] + 1
    return (uniform(ids, seed=seed, epoch=epoch, count=2) * places).astype(np.int64)


def sizes(image_ids: Sequence[str], settings: Mask, *, seed: int, epoch: int) -> list[int | None]:
    """Returns the size of each image's mask in pixels, see `faceae.config.Mask`; None for a kind without a size.

    Of several boxes it is the first one's.
    """
    drawn = _sizes(image_ids, settings, seed, epoch).tolist()
    found = kinds(image_ids, settings, seed=seed, epoch=epoch)
    return [size if kind in ("box", "strokes", "border") else None for kind, size in zip(found, drawn, strict=True)]


def draw_at_own_size(image_id: str, hole: PictureHole, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Draws a hole on a picture of any size, for evaluations: it depends on its arguments and nothing else.

    Args:
        image_id: the picture's id.
        hole: what to draw. Boxes lie anywhere, as in training; strokes have exactly its size as their width, where
            those of training are a quarter to half as wide.
        shape: (H, W), the picture's height and width in pixels.

    Returns:
        (H, W) bool, True inside the hole.
    """
    mask = np.zeros(shape, np.bool_)
    name = f"{image_id}/{hole.kind}:{hole.size}"
    if hole.kind == "strokes":
        (key,) = _stroke_keys([name], seed=0, epoch=VALIDATION_EPOCH)
        _stroke(mask, key, hole.size, thinnest=1.0)
        return mask
    names = [f"{name}/{number}" for number in range(hole.boxes)]
    sides = np.full(hole.boxes, hole.size)
    for top, left in _corners(names, sides, shape, seed=0, epoch=VALIDATION_EPOCH).tolist():
        mask[top : top + hole.size, left : left + hole.size] = True
    return mask


def _sizes(ids: Sequence[str], settings: Mask, seed: int, epoch: int) -> NDArray[np.int64]:
    """Returns (N,) int64 sizes in pixels, uniform over the settings' range."""
    least, most = settings.sizes
    if least == most:
        return np.full(len(ids), least)
    return least + (uniform(ids, seed=seed, epoch=epoch, count=1)[:, 0] * (most - least + 1)).astype(np.int64)


def _draw_boxes(masks: Masks, ids: Sequence[str], settings: Mask, seed: int, epoch: int) -> None:
    for number in range(settings.count):
        names = [f"{image_id}/{number}" for image_id in ids] if number else ids
        corners, sides = boxes(names, settings, seed=seed, epoch=epoch, image_size=masks.shape[1])
        for mask, (top, left), side in zip(masks, corners.tolist(), sides.tolist(), strict=True):
            mask[top : top + side, left : left + side] = True


def _draw_strokes(masks: Masks, ids: Sequence[str], settings: Mask, seed: int, epoch: int) -> None:
    widest = _sizes(ids, settings, seed, epoch) / 2
    for mask, key, width in zip(masks, _stroke_keys(ids, seed, epoch), widest.tolist(), strict=True):
        _stroke(mask, key, width, thinnest=0.5)


def _stroke_keys(ids: Sequence[str], seed: int, epoch: int) -> list[list[int]]:
    return (uniform(ids, seed=seed, epoch=epoch, count=4) * 2**53).astype(np.int64).tolist()


def _stroke(mask: NDArray[np.bool_], key: list[int], widest: float, thinnest: float) -> None:
    """Draws brush strokes that turn back and forth, after the free-form masks of Yu et al. (2019).

    Args:
        mask: (H, W) bool, all of which is replaced.
        key: seeds the shapes.
        widest: width of the widest strokes in pixels.
        thinnest: width of the thinnest, as a share of that.
    """
    height, width = mask.shape
    size = min(height, width)
    rng = np.random.default_rng(key)
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(1, 5)):
        turns = rng.integers(4, 13)
        thickness = max(1, round(rng.uniform(thinnest, 1) * widest))
        angles = rng.uniform(0, 2 * math.pi) + rng.uniform(-0.4, 0.4, turns) + math.pi * (np.arange(turns) % 2)
        steps = rng.normal(size / 6, size / 12, turns).clip(0, size / 3)
        path = np.stack([np.cos(angles), np.sin(angles)], 1) * steps[:, None]
        points = (rng.uniform(0, (width, height)) + np.cumsum(path, 0)).clip(0, (width - 1, height - 1))
        line = [(x, y) for x, y in points.tolist()]
        pen.line(line, fill=1, width=thickness)
        for x, y in line:
            pen.ellipse((x - thickness / 2, y - thickness / 2, x + thickness / 2, y + thickness / 2), fill=1)
    mask[...] = np.asarray(canvas)


def _draw_halves(masks: Masks, ids: Sequence[str], settings: Mask, seed: int, epoch: int) -> None:
    """Hides the left, right, upper or lower half."""
    half = masks.shape[1] // 2
    sides = (uniform(ids, seed=seed, epoch=epoch, count=4)[:, 0] * 4).astype(int)
    for mask, side in zip(masks, sides.tolist(), strict=True):
        along = mask if side < 2 else mask.T
        along[half * (side % 2) : half * (side % 2 + 1)] = True


def _draw_borders(masks: Masks, ids: Sequence[str], settings: Mask, seed: int, epoch: int) -> None:
    """Hides all but a square in the middle (outpainting)."""
    masks[...] = True
    for mask, width in zip(masks, _sizes(ids, settings, seed, epoch).tolist(), strict=True):
        mask[width:-width, width:-width] = False


_DRAW: dict[str, Callable[[Masks, Sequence[str], Mask, int, int], None]] = {
    "box": _draw_boxes,
    "strokes": _draw_strokes,
    "half": _draw_halves,
    "border": _draw_borders,
}


def pack(masks: Masks) -> NDArray[np.uint8]:
    """Packs (N, H, W) bool into (N, H * W / 8) uint8, one bit per pixel, lowest bit first; 8 must divide H * W."""
    return np.packbits(masks.reshape(len(masks), -1), axis=1, bitorder="little")


def unpack(bits: NDArray[np.uint8], image_size: int) -> Masks:
    """Inverts `pack` for square masks: (N, S * S / 8) uint8 to (N, S, S) bool, where S is `image_size`."""
    return np.unpackbits(bits, axis=1, bitorder="little").view(np.bool_).reshape(-1, image_size, image_size)


def of_image(image: Image.Image) -> NDArray[np.bool_]:
    """Returns the hole of a mask image, (H, W) bool: its white pixels, of at least 128 in greyscale."""
    return np.asarray(image.convert("L")) >= 128
