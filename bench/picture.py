"""The README's picture: portraits restored by OpenCV and by a model that has not seen them.

    faceae train --preset restore --data.source synthetic:6000 --run.name front    # 20 minutes
    python -m bench.picture out/front/model

Writes docs/faces.png, and prints the mean squared errors inside the holes that it shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import faceae
from faceae.data.synthetic import portrait
from faceae.evaluation.baselines import telea
from faceae.reporting.contact_sheet import draw_rows

PICTURE = Path(__file__).parents[1] / "docs" / "faces.png"
SIZE, BOX, FIRST = 128, 28, 100_000
CORNERS = ((50, 38), (82, 50), (54, 66), (62, 50), (24, 56), (50, 30), (84, 54), (44, 60))
"""Top and left of each hole, in pixels: on an eye, a mouth, a nose, a hairline."""


def main() -> None:
    """Restores, draws and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a saved model, such as out/front/model")
    model = faceae.load(parser.parse_args().model)
    original = np.stack([portrait(FIRST + number, SIZE) for number in range(len(CORNERS))])
    holes = np.zeros(original.shape[:3], np.bool_)
    for hole, (top, left) in zip(holes, CORNERS, strict=True):
        hole[top : top + BOX, left : left + BOX] = True
    given = np.where(holes[..., None], 0, original).astype(np.uint8)
    opencv = np.stack([telea(image, hole) for image, hole in zip(given, holes, strict=True)])
    restored = np.stack(model.restore(list(given), list(holes)))
    draw_rows({"original": original, "given": given, "OpenCV": opencv, "faceae": restored}).save(PICTURE, optimize=True)
    for name, images in (("OpenCV", opencv), ("faceae", restored)):
        error = ((images / 255 - original / 255)[holes] ** 2).mean()
        print(f"{name}: {error:.4f}")


if __name__ == "__main__":
    main()
