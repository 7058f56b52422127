"""What all measurements of the data path have in common. It imports neither Ray nor torch: peers run without Ray."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIZE, BOX, BATCH = 128, 28, 64
LATER_EPOCHS = 6
CORES = len(os.sched_getaffinity(0))


def rate(work: Callable[[], int]) -> float:
    """Returns the images/s of work that returns how many images it has done."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def pillow(content: bytes, size: int) -> NDArray[np.uint8]:
    """Decodes an image as the other loaders' users do, with Pillow: (size, size, 3) uint8."""
    with Image.open(io.BytesIO(content)) as image:
        return np.array(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS))
