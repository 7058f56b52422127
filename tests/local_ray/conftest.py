"""Images that have been decoded on a real Ray instance."""

import pytest
from loading import SIZE
from pictures import png
from PIL import Image

from faceae.data import reader
from faceae.data.cache import decode
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait


@pytest.fixture(scope="session")
def source(tmp_path_factory, ray_cluster):
    """45 portraits and three files that cannot be used."""
    root = tmp_path_factory.mktemp("loader")
    for number in range(45):
        (root / f"{number:02}.png").write_bytes(png(Image.fromarray(portrait(number, SIZE))))
    for name in ("03a.png", "17a.png", "99.png"):
        (root / name).write_bytes(b"no image")
    return root


@pytest.fixture(scope="session")
def decoded(source):
    """The images of `source`, in small blocks so that there are several."""
    entries = list_sources([str(source)], "--data.source").entries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "BLOCK_BYTES", 7 * reader.image_bytes(SIZE))
        patch.setattr(reader, "MIN_BLOCKS", 1)
        blocks, rejected = decode(entries, SIZE, lambda images: None)
    return blocks, rejected
