"""Synthetic portraits: drawn faces for a machine that has no photographs.

They are framed as FFHQ frames a face (eyes at 48 % of the height, nose at 62 %, mouth at 75 %) and vary in skin, hair,
light, background and expression, but nobody would take them for photographs. Results on them show that the system
works, not how well it restores faces.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

_SKIN = [(255, 224, 196), (241, 194, 165), (224, 172, 134), (198, 134, 94), (141, 85, 54), (92, 56, 38)]
_HAIR = [
    (24, 20, 18),
    (60, 40, 28),
    (106, 72, 44),
    (170, 124, 72),
    (214, 182, 124),
    (150, 64, 34),
    (168, 166, 164),
]
_IRIS = [(70, 46, 30), (96, 70, 40), (70, 104, 70), (84, 120, 160), (110, 116, 120)]
_CANVAS = 256  # side in pixels; scaling the drawing down gives smooth edges at any --data.image-size


def portrait(number: int, size: int) -> NDArray[np.uint8]:
    """Draws a portrait.

    Args:
        number: seed of the portrait; the same number gives the same person in the same light.
        size: side in pixels.

    Returns:
        (size, size, 3) uint8, sRGB.
    """
    rng = np.random.default_rng(number)
    image = _background(rng)
    _Face(rng, image).draw()
    image = _lit(rng, image.filter(ImageFilter.GaussianBlur(1.2)))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def _background(rng: np.random.Generator) -> Image.Image:
    corners = np.array([_any_colour(rng) for _ in range(4)], np.uint8).reshape(2, 2, 3)
    image = Image.fromarray(corners).resize((_CANVAS, _CANVAS), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 5)):  # soft shapes, like a room out of focus
        x, y, r = rng.uniform(-20, _CANVAS), rng.uniform(-20, 160), rng.uniform(15, 60)
        draw.ellipse((x - r, y - r, x + r, y + 2 * r), fill=_any_colour(rng))
    return image.resize((32, 32), Image.Resampling.BOX).resize((_CANVAS, _CANVAS), Image.Resampling.BICUBIC)


def _lit(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Adds light from one side, the vignette of a lens and a little grain."""
    y, x = np.mgrid[-1 : 1 : _CANVAS * 1j, -1 : 1 : _CANVAS * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0.05, 0.28) * (np.cos(angle) * x + np.sin(angle) * y) - 0.08 * (x * x + y * y)
    warmth = 1 + rng.uniform(-0.06, 0.06) * np.array([1, 0, -1], np.float32)
    grain = rng.normal(0, 2.5, (_CANVAS, _CANVAS, 1)).astype(np.float32)
    pixels = np.asarray(image, np.float32) * light[..., None] * warmth + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _any_colour(rng: np.random.Generator) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.05, 0.6), rng.uniform(0.15, 0.9))
    return int(255 * r), int(255 * g), int(255 * b)


def _shade(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(255, max(0, int(channel * factor))) for channel in colour)
    return r, g, b


class _Face:
    """One person. All lengths are in pixels of the canvas; parts are drawn from back to front."""

    def __init__(self, rng: np.random.Generator, image: Image.Image) -> None:
        self.rng = rng
        self.pen = ImageDraw.Draw(image)
        self.skin = _shade(_SKIN[rng.integers(len(_SKIN))], rng.uniform(0.9, 1.05))
        self.hair = _shade(_HAIR[rng.integers(len(_HAIR))], rng.uniform(0.85, 1.15))
        self.x = 128 + rng.normal(0, 3)  # middle of the face
        self.eye_y = 123 + rng.normal(0, 2)
        self.eye_gap = 33 + rng.normal(0, 1.5)
        self.mouth_y = 192 + rng.normal(0, 3)
        self.width = rng.uniform(66, 78)  # half of the face's width
        self.chin = self.mouth_y + rng.uniform(32, 42)
        self.long_hair = rng.uniform() < 0.5

    def draw(self) -> None:
        self._shoulders()
        self._head()
        self._hair()
        for side in (-1, 1):
            self._eye(self.x + side * self.eye_gap)
        self._nose()
        self._mouth()

    def _ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self.pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)

    def _shoulders(self) -> None:
        if self.long_hair:
            self._ellipse(self.x, 150, self.width + self.rng.uniform(18, 34), 120, _shade(self.hair, 0.8))
        self._ellipse(self.x, 292, self.rng.uniform(105, 140), 62, _any_colour(self.rng))
        self.pen.rectangle((self.x - 34, 190, self.x + 34, 246), fill=_shade(self.skin, 0.72))
        self._ellipse(self.x, 246, 36, 14, _shade(self.skin, 0.78))

    def _head(self) -> None:
        top, skin = 22.0, self.skin
        for side in (-1, 1):
            self._ellipse(self.x + side * (self.width + 1), self.eye_y + 16, 9, 20, _shade(skin, 0.82))
        self._ellipse(self.x, (top + self.mouth_y) / 2, self.width + 9, (self.mouth_y - top) / 2 + 8, self.hair)
        middle, radius = (top + 14 + self.chin) / 2, (self.chin - top - 14) / 2
        for step, factor in enumerate((0.86, 0.93, 1.0)):  # the rim turns away from the light
            self._ellipse(self.x, middle, self.width - 4 * step, radius - 4 * step, _shade(skin, factor))

    def _hair(self) -> None:
        line = self.rng.uniform(58, 78)  # where the forehead begins
        part = self.x + self.rng.uniform(-40, 40)
        left, right = self.x - self.width - 5, self.x + self.width + 5
        self.pen.pieslice((left, 12, right, 2 * line + 58), 180, 360, fill=self.hair)
        forehead = [(left + 16, line + 36), (left + 26, line + 8), (part, line - 10), (right - 26, line + 8)]
        self.pen.polygon([*forehead, (right - 16, line + 36)], fill=self.skin)
        for _ in range(8):  # strands
            x = self.rng.uniform(left + 26, right - 26)
            strand = _shade(self.hair, self.rng.uniform(0.75, 1.3))
            self.pen.line((x, line - 10, self.x + 0.5 * (x - self.x), 20), fill=strand, width=3)

    def _eye(self, x: float) -> None:
        rng, y = self.rng, self.eye_y
        self._ellipse(x, y - 2, 20, 14, _shade(self.skin, 0.85))
        self._ellipse(x, y, 15.5, 8.5, (244, 240, 236))
        iris = _IRIS[int(self.skin[1] + self.hair[0]) % len(_IRIS)]
        self._ellipse(x, y, 8, 8, iris)
        self._ellipse(x, y, 4, 4, (12, 10, 10))
        self._ellipse(x + 3, y - 3, 2, 2, (255, 255, 255))
        self.pen.arc((x - 17, y - 11, x + 17, y + 13), 195, 345, fill=_shade(self.skin, 0.35), width=3)
        lift = rng.uniform(-2, 2)
        self.pen.arc((x - 22, y - 30 + lift, x + 22, y + 10 + lift), 215, 325, fill=_shade(self.hair, 0.7), width=6)

    def _nose(self) -> None:
        y, shadow = 159 + self.rng.normal(0, 2), _shade(self.skin, 0.82)
        half = self.rng.uniform(12, 17)
        self.pen.polygon([(self.x - 6, self.eye_y), (self.x - half, y), (self.x - 2, y - 6)], fill=shadow)
        self._ellipse(self.x, y - 2, half, 9, _shade(self.skin, 0.92))
        self._ellipse(self.x + 1, y - 6, 6, 7, _shade(self.skin, 1.1))
        for side in (-1, 1):
            self._ellipse(self.x + side * half * 0.55, y + 3, 4, 2.5, _shade(self.skin, 0.45))

    def _mouth(self) -> None:
        y, half, smile = self.mouth_y, self.rng.uniform(23, 33), self.rng.uniform(2, 16)
        lips = (min(255, int(self.skin[0] * 0.9)), int(self.skin[1] * 0.6), int(self.skin[2] * 0.62))
        box = (self.x - half, y - smile, self.x + half, y + smile)
        if smile > 8:  # teeth show
            self.pen.chord(box, 0, 180, fill=(240, 236, 230), outline=lips, width=4)
        else:
            self._ellipse(self.x, y + 2, half * 0.9, 6, lips)
            self.pen.arc(box, 10, 170, fill=_shade(lips, 0.55), width=3)
