"""Windows of pictures with the holes that faceae's small network is for: scratches and small boxes."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

WINDOW = 64
"""Side of a window in pixels."""

_SEEN = (28, 160)  # side in pixels of the part of a picture that a window shows, smaller or larger than it is
_BOX = (3, 28)  # side of a box in pixels
_STROKE = (1.5, 14)  # width of a stroke in pixels
_MOST = 0.6  # of a window that may be hidden
_NOISE = 6 / 255  # standard deviation of the strongest noise
_FINE = 2  # the holes are drawn so many times larger


def batch(rng: np.random.Generator, pictures: NDArray[np.uint8], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts windows and hides parts of them.

    Args:
        rng: where, and what.
        pictures: (n, side, side, 3) uint8.
        count: number of windows, N.

    Returns:
        What is given, (N, 3, WINDOW, WINDOW) in [0, 1], with noise in some and 0 where unknown; the same complete and
        without noise; and what is known, (N, 1, WINDOW, WINDOW), 1 or 0.
    """
    windows = np.stack([_window(rng, pictures[rng.integers(len(pictures))]) for _ in range(count)])
    whole = torch.from_numpy(windows).permute(0, 3, 1, 2).float() / 255
    known = 1 - torch.from_numpy(np.stack([_hole(rng) for _ in range(count)]))[:, None].float()
    noisy = rng.random(count) < 0.6
    deviation = torch.from_numpy(noisy * rng.uniform(0, _NOISE, count)).float()[:, None, None, None]
    noise = torch.from_numpy(rng.standard_normal(tuple(whole.shape), np.float32))
    return (whole + deviation * noise) * known, whole, known


def _window(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = round(_between(rng, _SEEN[0], min(_SEEN[1], len(picture))))
    top, left = rng.integers(0, len(picture) - side + 1, 2)
    part = Image.fromarray(picture[top : top + side, left : left + side])
    window = np.asarray(part.resize((WINDOW, WINDOW), Image.Resampling.BICUBIC))
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return window.transpose(1, 0, 2) if rng.random() < 0.3 else window  # faces and rooms stand upright


def _hole(rng: np.random.Generator) -> NDArray[np.bool_]:
    while True:
        canvas = Image.new("L", (_FINE * WINDOW, _FINE * WINDOW))
        draw = _draw_boxes if rng.random() < 0.35 else _draw_strokes
        draw(rng, ImageDraw.Draw(canvas))
        hole = np.asarray(canvas.resize((WINDOW, WINDOW), Image.Resampling.BOX)) >= 128
        if 0 < hole.mean() <= _MOST:
            return hole


def _draw_boxes(rng: np.random.Generator, pen: ImageDraw.ImageDraw) -> None:
    for _ in range(rng.integers(1, 3)):
        width = round(_between(rng, *_BOX))
        height = round(_between(rng, *_BOX)) if rng.random() < 0.5 else width
        left, top = rng.integers(0, (WINDOW - width + 1, WINDOW - height + 1)).tolist()
        right, bottom = left + width, top + height
        pen.rectangle((_FINE * left, _FINE * top, _FINE * right - 1, _FINE * bottom - 1), 255)


def _draw_strokes(rng: np.random.Generator, pen: ImageDraw.ImageDraw) -> None:
    width = _FINE * _between(rng, *_STROKE)
    for _ in range(rng.integers(1, 4)):
        angle, points = rng.uniform(0, 2 * math.pi), [rng.uniform(0, _FINE * WINDOW, 2)]
        for _ in range(rng.integers(1, 5)):
            angle += rng.normal(0, 0.5)
            step = rng.uniform(10, 45) * np.array([math.cos(angle), math.sin(angle)])
            points.append(points[-1] + _FINE * step)
        pen.line([tuple(point) for point in points], 255, width=max(_FINE, round(width)))
        for x, y in points:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), 255)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draws a number between two, uniform in its logarithm."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
