"""Mask files: training and reconstruct read them by the same rules, and a bad one costs one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from networks import tiny
from pictures import png, tarred
from PIL import Image

from faceae.corruption import masks
from faceae.data.full_size import read_full_size, unpacked
from faceae.data.mask_library import read_masks
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.errors import InputError
from faceae.models import Restorer

SIZE = 32
HOLE = np.zeros((SIZE, SIZE), np.bool_)
HOLE[:10, 4:20] = True
GREY = Image.fromarray(np.where(HOLE, np.uint8(255), np.uint8(0)))


def transparent(image):
    """White all over, and opaque only in the hole."""
    white = Image.new("L", image.size, 255)
    return Image.merge("LA", (white, image))


def turned(image):
    """An image that is upright only once its EXIF orientation is applied."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return png(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


def sixteen_bit(white):
    return png(Image.fromarray(np.asarray(GREY).astype(np.uint16) // 255 * white))


def bomb(side):
    """A PNG of one bit a pixel that is small in the file."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg(image):
    buffer = io.BytesIO()
    image.resize((64, 64), Image.Resampling.NEAREST).save(buffer, "JPEG")
    return buffer.getvalue()


GOOD = {
    "grey": png(GREY),
    "bilevel": png(GREY.convert("1")),
    "palette": png(GREY.convert("P")),
    "rgb": png(GREY.convert("RGB")),
    "twice as large, JPEG": jpeg(GREY),
    "transparent": png(transparent(GREY)),
    "transparent, RGBA": png(transparent(GREY).convert("RGBA")),
    "rotated by EXIF": turned(GREY),
    "16 bit": sixteen_bit(65_535),
}

BAD = {
    "all white": (png(Image.new("L", (SIZE, SIZE), 255)), "covers the whole picture, so nothing of it is known"),
    "all black": (png(Image.new("L", (SIZE, SIZE))), "hides nothing; a hole must be white"),
    "16 bit, dark": (sixteen_bit(30_000), "hides nothing; a hole must be white"),
    "no image": (b"x", "cannot be used: not an image \\(PNG"),
    "empty": (b"", "cannot be used: the file is empty"),
    "bomb": (bomb(50_000), "cannot be used: Image size .2500000000 pixels. exceeds limit"),
    "smaller bomb": (bomb(13_000), "cannot be used: 13000x13000 pixels is more than the 100 million allowed"),
    "truncated": (png(GREY)[:50], "cannot be used: "),
}


def by_training(path):
    return masks.unpack(read_masks(str(path), SIZE).packed, SIZE)[0]


def by_reconstruct(path):
    """Returns the hole, or the reason why there is none."""
    picture = list_sources([f"synthetic:{1}"], "").entries
    (block,) = read_full_size(picture, ["a.png"], list_sources([str(path)], "").entries, SIZE)
    (row,) = block.to_pylist()
    return row["reason"] or unpacked(row)[1]


@pytest.mark.parametrize("kind", GOOD)
def test_masks_of_every_kind_are_read_alike(tmp_path, kind):
    (tmp_path / "m.png").write_bytes(GOOD[kind])
    assert (by_training(tmp_path) == HOLE).all()
    assert (by_reconstruct(tmp_path) == HOLE).all()


@pytest.mark.parametrize("kind", BAD)
def test_an_unusable_mask_costs_one_line(tmp_path, kind):
    content, words = BAD[kind]
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(InputError, match=rf"^--mask\.images .*: m\.png {words}") as error:
        by_training(tmp_path)
    assert "\n" not in str(error.value)
    assert by_reconstruct(tmp_path) == f"its mask {str(error.value).split('m.png ')[1]}"


def test_masks_in_an_archive_are_read_in_its_order(tmp_path):
    files = {f"{number}.png": png(GREY.rotate(90 * number)) for number in range(4)}
    (tmp_path / "masks.tar").write_bytes(tarred(files))
    found = masks.unpack(read_masks(str(tmp_path / "masks.tar"), SIZE).packed, SIZE)
    assert all((hole == np.rot90(HOLE, number)).all() for number, hole in enumerate(found))


def test_a_transparent_mask_from_python_is_read_alike():
    network, settings = tiny("unet")
    restorer = Restorer(network, settings)
    picture = Image.fromarray(portrait(0, SIZE))
    for mask in (transparent(GREY), Image.open(io.BytesIO(sixteen_bit(65_535)))):
        assert np.asarray(restorer(picture, mask)).tolist() == np.asarray(restorer(picture, GREY)).tolist()
    with pytest.raises(InputError, match="the mask cannot be used: 32-bit samples"):
        restorer(picture, GREY.convert("F"))


@pytest.mark.parametrize(
    ("size", "fits"),
    [((32, 32), True), ((7, 7), True), ((33, 32), True), ((64, 60), False), ((32, 40), False), ((16, 32), False)],
)
def test_one_mask_for_all_is_scaled_to_pictures_of_its_shape_only(tmp_path, size, fits):
    (tmp_path / "m.png").write_bytes(png(GREY.resize(size)))
    (mask,) = list_sources([str(tmp_path / "m.png")], "").entries
    pictures = list_sources(["synthetic:2"], "").entries
    (block,) = read_full_size(pictures, ["a.png", "b.png"], mask, SIZE)
    reason = f"its mask has {size[0]}x{size[1]} pixels, another shape than the picture's 32x32"
    assert block["reason"].to_pylist() == [None if fits else reason] * 2
