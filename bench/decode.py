"""Measures how many images a core decodes per second, by size and format of the stored file, for docs/scale.md.

    python -m bench.decode

The images are portraits with noise of 6 levels. A PNG of 1024x1024 has 2.0 MB, one of FFHQ 1.27 MB (89.1 GB for
70,000), so real ones decode somewhat faster. The time that a store or a disk takes to deliver them is not included.
"""

from __future__ import annotations

import io
from functools import partial

import numpy as np
from PIL import Image
from rich.table import Table

from bench.machine import describe
from bench.settings import rate
from faceae.console import out
from faceae.data.images import decode
from faceae.data.synthetic import portrait

NOISE = 6
IMAGES = {128: 256, 256: 64, 1024: 8}


def main() -> None:
    """Measures every size and format, and prints a table."""
    table = Table(title=f"one of {describe()}", box=None, pad_edge=False, title_justify="left")
    for heading in ("stored", "bytes", "decoded", "images/s"):
        table.add_column(heading, justify="right")
    for stored, count in IMAGES.items():
        for kind in ("PNG", "JPEG"):
            files = [encoded(number, stored, kind) for number in range(count)]
            for size in sorted({128, min(stored, 256), stored}):
                if size <= stored:
                    figure = max(rate(partial(_decode, files, size)) for _ in range(3))
                    mean = f"{np.mean([len(file) for file in files]):,.0f}"
                    table.add_row(f"{stored}x{stored} {kind}", mean, f"{size}x{size}", f"{figure:,.0f}")
    out.print(table)


def encoded(number: int, size: int, kind: str) -> bytes:
    """Returns a noisy portrait as the bytes of a PNG or JPEG file."""
    noise = np.random.default_rng(number).normal(0, NOISE, (size, size, 3))
    pixels = (portrait(number, size) + noise).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=90)
    return buffer.getvalue()


def _decode(files: list[bytes], size: int) -> int:
    for file in files:
        decode(file, size)
    return len(files)


if __name__ == "__main__":
    main()
