"""The decoder: every file is an image or a `BadImage`, and the fast decoder agrees with Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
from fuzzing import assert_line, contract, examples, mutated
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from faceae.data import images
from faceae.data.images import BadImage, decode, decode_whole
from faceae.data.synthetic import portrait

SIZE = 24

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")


def saved(mode, form, **options):
    image = Image.fromarray(portrait(1, 32)).resize((32, 28)).convert(mode)
    more = {"append_images": [image.rotate(9)]} if options.get("save_all") else {}
    buffer = io.BytesIO()
    image.save(buffer, form, **options, **more)
    return buffer.getvalue()


def sixteen_bits(form):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 60).save(buffer, form)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SEEDS = [
    *(saved(mode, "PNG") for mode in ("RGB", "RGB", "RGB", "RGBA", "P", "L", "LA", "1")),
    saved("RGB", "PNG", exif=EXIF, icc_profile=PROFILE),
    *(saved(mode, "JPEG") for mode in ("RGB", "L", "CMYK")),
    saved("RGB", "JPEG", progressive=True, exif=EXIF, icc_profile=PROFILE),
    *(saved(mode, "WEBP", lossless=lossless) for mode in ("RGB", "RGBA") for lossless in (True, False)),
    *(saved("RGB", form, save_all=True) for form in ("GIF", "WEBP", "TIFF")),
    *(saved(mode, "BMP") for mode in ("RGB", "P", "1")),
    *(saved("RGB", "TIFF", compression=how) for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
    *(sixteen_bits(form) for form in ("PNG", "TIFF")),
    *(saved("RGB", form) for form in ("EPS", "PPM", "ICO", "TGA", "PDF", "SGI", "PCX")),
]
PLAIN = SEEDS[0]


def checked(encoded: bytes) -> bytes:
    """Returns a PNG with the checksums of its chunks made right, so that damage in them reaches what reads them."""
    fixed, at = bytearray(encoded), 8
    while at + 12 <= len(fixed):
        end = at + 8 + int.from_bytes(fixed[at : at + 4])
        fixed[end : end + 4] = zlib.crc32(fixed[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(fixed)


files = st.one_of(mutated(SEEDS), mutated([PLAIN]), mutated([PLAIN, *SEEDS[3:9]]).map(checked))


def outcome(read):
    try:
        pixels = read()
    except BadImage as error:
        assert_line(str(error))
        return None
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    return pixels.tobytes()


@examples(few=250, many=2000)
@given(files)
def test_every_file_is_an_image_or_a_bad_one_with_either_decoder(encoded):
    with contract():
        fast = outcome(lambda: decode(encoded, SIZE)), outcome(lambda: decode_whole(encoded).pixels)
    with contract(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_decode_plain_png", lambda *_: None)
        alone = outcome(lambda: decode(encoded, SIZE)), outcome(lambda: decode_whole(encoded).pixels)
    assert all(one == other for one, other in zip(fast, alone, strict=True) if one and other)


@examples(few=30, many=250)
@given(st.sampled_from(SEEDS), st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1))
def test_no_size_that_a_png_claims_takes_its_memory(encoded, width, height):
    claimed = checked(encoded[:16] + struct.pack(">II", width, height) + encoded[24:])
    with contract():
        outcome(lambda: decode(claimed, SIZE))
        outcome(lambda: decode_whole(claimed).pixels)
