"""Which network fills a hole, or how much of it each, by how much of the hole its surroundings tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceae.corruption.components import Box, components
from faceae.models.windows import Hole, Pixels

_ROUGH = 0.02
"""Deviation from a smooth shade, of values in [0, 1], from which a hole's surroundings tell little about what it hides.

On portraits of 1350x1350 anything from 0.005 to 0.03 gives the same.
"""

_SAMPLES = 64  # of the surroundings, to each side

Fill = tuple[Box, Pixels]
"""A rectangle of a picture, and a copy of its pixels."""


def plain(picture: Pixels, hole: Hole, part: Hole) -> Hole:
    """Returns those connected parts of `part` whose surroundings are a smooth shade, which nothing but goes on in them.

    Large parts like these are left to the network for surroundings: the one for faces would leave a cast.

    Args:
        picture: (H, W, 3) uint8.
        hole: all that is unknown, (H, W) bool.
        part: a part of it, (H, W) bool. What lies in a connected part's rectangle goes with it.
    """
    smooth = np.zeros_like(part)
    for box in components(part):
        if roughness(picture, hole, box) < _ROUGH:
            smooth[box.inside] = part[box.inside]
    return smooth


def copies(picture: Pixels, part: Hole) -> list[Fill]:
    """Returns a copy of each connected part of a hole, which something else is to be filled into."""
    return [(box, picture[box.inside].copy()) for box in components(part)]


def mix(picture: Pixels, hole: Hole, part: Hole, locally: Sequence[Fill]) -> None:
    """Mixes what the network for faces has filled into parts of a hole with what the one for surroundings had.

    Where the surroundings are a smooth shade, it goes on in the hole, and the network for faces would only disturb it.
    Where they are not, both err differently, and the mean of both errs least.

    Args:
        picture: (H, W, 3) uint8, filled by the network for faces; changed where `part` is True.
        hole: all that was unknown, (H, W) bool.
        part: what is to be mixed of it, (H, W) bool.
        locally: what the network for surroundings had filled into each connected part, see `copies`.
    """
    mixed = []
    for box, near in locally:
        rough = roughness(picture, hole, box)
        share = rough**2 / (rough**2 + _ROUGH**2) / 2
        mixed.append(np.rint((1 - share) * near + share * picture[box.inside]).astype(np.uint8))
    for (box, _), pixels in zip(locally, mixed, strict=True):  # not before: rectangles may overlap
        inside = part[box.inside]
        picture[box.inside][inside] = pixels[inside]


def roughness(picture: Pixels, hole: Hole, box: Box) -> float:
    """Returns how much the surroundings of a part of a hole deviate from the quadratic shade that fits them best.

    Args:
        picture: (H, W, 3) uint8.
        hole: all that is unknown, (H, W) bool.
        box: the part's rectangle. Its surroundings are a quarter of its longer side wide.

    Returns:
        The root of the mean squared deviation, of values in [0, 1]; 1 if there is too little around it to say.
    """
    longest = max(box.bottom - box.top, box.right - box.left)
    around = box.grown(max(3, longest // 4)).inside
    step = max(1, longest // _SAMPLES)
    known = ~hole[around][::step, ::step]
    y, x = (2 * place / step / _SAMPLES - 1 for place in np.nonzero(known))
    shades = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)
    colours = picture[around][::step, ::step][known] / 255
    if len(colours) <= shades.shape[1]:
        return 1.0
    fit = np.linalg.lstsq(shades, colours, rcond=None)[0]
    return float(np.sqrt(np.square(shades @ fit - colours).mean()))
