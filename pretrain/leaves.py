"""Draws dead leaves: opaque shapes that cover each other, as objects do in front of a camera.

Such pictures have the statistics of photographs, edges, corners and flat parts at all scales (Lee, Mumford and Huang,
2001), and networks trained on them restore photographs nearly as well as those trained on photographs (Achddou,
Gousseau and Ladjal, Fully synthetic training for image restoration tasks, 2023). Ours have shading, textures and
strands of hair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIDE = 512
"""Side of a picture in pixels."""

_CANVAS = 2 * SIDE  # scaling down gives smooth edges
_LARGEST = 500  # radius on the canvas
_PALETTE = 6
_BLURS = (0, 0.6, 1.2, 2.5)


class _Shapes:
    """Numbered shapes on a canvas; the strands of a bundle of hair have the same group, and so nearly one colour."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.numbers = Image.new("I", (_CANVAS, _CANVAS))
        self.pen = ImageDraw.Draw(self.numbers)
        self.centres, self.radii, self.groups = [(_CANVAS / 2, _CANVAS / 2)], [float(_CANVAS)], [0]

    def draw(self) -> None:
        """Covers the canvas."""
        smallest, count = self.rng.uniform(3, 12), self.rng.uniform(1000, 8000)
        while len(self.radii) < count:
            radius = self._radius(smallest)
            centre = self.rng.uniform(-50, _CANVAS + 50, 2)
            kind = self.rng.random()
            if kind < 0.12 and radius < 200:
                self._hair(centre, radius)
            else:
                outline = self._blob if kind < 0.5 else self._corners
                self.pen.polygon(outline(centre, radius), self._new(centre, radius))

    def _radius(self, smallest: float) -> float:
        """Most radii follow r**-3, which makes a picture look the same at all scales."""
        if self.rng.random() < 0.2:
            return float(np.exp(self.rng.uniform(np.log(20), np.log(_LARGEST))))
        return smallest / np.sqrt(1 - self.rng.random() * (1 - (smallest / _LARGEST) ** 2))

    def _new(self, centre: NDArray[np.float64], radius: float, group: int | None = None) -> int:
        self.centres.append((centre[0], centre[1]))
        self.radii.append(radius)
        self.groups.append(self.groups[-1] + 1 if group is None else group)
        return len(self.radii) - 1

    def _hair(self, centre: NDArray[np.float64], radius: float) -> None:
        group, along = self.groups[-1] + 1, np.linspace(-0.5, 0.5, 8)
        length, bend = radius * self.rng.uniform(3, 10) + 60, self.rng.normal(0, 0.6)
        angle = self.rng.uniform(0, 2 * np.pi)
        for _ in range(self.rng.integers(5, 40)):
            offset = self.rng.normal(0, radius) * np.array([-np.sin(angle), np.cos(angle)])
            turned = angle + bend * along + self.rng.normal(0, 0.08)
            points = centre + offset + length * along[:, None] * np.stack([np.cos(turned), np.sin(turned)], 1)
            self.pen.line(_pairs(points), self._new(centre, radius, group), width=int(self.rng.uniform(1, 7)))

    def _blob(self, centre: NDArray[np.float64], radius: float) -> list[tuple[float, float]]:
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        wave = 1 + self.rng.uniform(0, 0.25) * np.sin(self.rng.integers(2, 5) * turn + self.rng.uniform(0, 6))
        stretch = np.exp(self.rng.normal(0, 0.25))
        ellipse = np.stack([stretch * np.cos(turn), np.sin(turn) / stretch], 1)
        return self._turned(centre, radius * wave[:, None] * ellipse)

    def _corners(self, centre: NDArray[np.float64], radius: float) -> list[tuple[float, float]]:
        turn = np.sort(self.rng.uniform(0, 2 * np.pi, self.rng.integers(3, 7)))
        return self._turned(centre, radius * np.stack([np.cos(turn), np.sin(turn)], 1))

    def _turned(self, centre: NDArray[np.float64], points: NDArray[np.float64]) -> list[tuple[float, float]]:
        angle = self.rng.uniform(0, 2 * np.pi)
        return _pairs(centre + points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]))


def _pairs(points: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]


def leaves(number: int) -> NDArray[np.uint8]:
    """Draws a picture.

    Args:
        number: seed of the picture.

    Returns:
        (SIDE, SIDE, 3) uint8, RGB.
    """
    rng = np.random.default_rng(number)
    shapes = _Shapes(rng)
    shapes.draw()
    of = np.asarray(shapes.numbers)
    colour, slope, texture = _paint(rng, np.array(shapes.radii), np.array(shapes.groups))
    noise = np.stack([_noise(rng, roughness) for roughness in (0.6, 1.0, 1.5)])
    kind = rng.integers(0, len(noise), len(colour))
    pixels = colour[of] + (np.take_along_axis(noise, kind[of][None], 0)[0] * texture[of])[..., None]
    rows, columns = np.mgrid[:_CANVAS, :_CANVAS]
    from_centre = np.stack([columns, rows], -1) - np.array(shapes.centres)[of]
    pixels += (from_centre[..., None] * slope[of]).sum(-2)
    light = 1 + rng.uniform(0, 0.3) * _noise(rng, 2.5).clip(-2, 2)
    image = Image.fromarray((255 * (pixels * light[..., None]).clip(0, 1)).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.choice(_BLURS))))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def _paint(
    rng: np.random.Generator, radii: NDArray[np.float64], groups: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns each shape's colour (n, 3), slope to the right and down (n, 2, 3), and contrast of texture (n,)."""
    n, last = len(radii), groups[-1] + 1
    palette = rng.uniform(0, 1, (_PALETTE, 1)) + rng.normal(0, 0.15, (_PALETTE, 3))
    of_group = palette[rng.integers(0, _PALETTE, last)] + rng.normal(0, 0.1, (last, 1)) + rng.normal(0, 0.04, (last, 3))
    colour = of_group[groups] + rng.normal(0, 0.06, (n, 1)) + rng.normal(0, 0.015, (n, 3))
    slope = rng.normal(0, 0.12, (n, 2, 1)) / radii[:, None, None] * rng.choice([0, 1, 1, 2.5], (n, 1, 1))
    texture = rng.choice([0, 0, 0.01, 0.03, 0.08], n) * rng.uniform(0.5, 1.5, n)
    return colour, slope, texture


def _noise(rng: np.random.Generator, roughness: float) -> NDArray[np.float64]:
    """Returns noise whose amplitude falls with the frequency to this power, (_CANVAS, _CANVAS), of variance 1."""
    spectrum = np.fft.rfft2(rng.normal(size=(_CANVAS, _CANVAS)))
    frequency = np.hypot(np.fft.fftfreq(_CANVAS)[:, None], np.fft.rfftfreq(_CANVAS)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum * frequency**-roughness, (_CANVAS, _CANVAS))
    return noise / noise.std()
