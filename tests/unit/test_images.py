"""Decoding an image: modes, colours, orientation, cropping, and the reasons for rejecting it."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import png
from PIL import Image, ImageCms

from faceae.data import images
from faceae.data.images import MAX_PIXELS, BadImage, decode, decode_whole

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(mode="RGB", size=(64, 64), left=RED, right=BLUE) -> Image.Image:
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image.convert(mode)


def jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def assert_colours(pixels, left, right, tolerance=20):
    assert pixels.dtype == np.uint8
    assert abs(pixels[:, : pixels.shape[1] // 4].astype(int) - left).max() <= tolerance
    assert abs(pixels[:, -pixels.shape[1] // 4 :].astype(int) - right).max() <= tolerance


def test_pixels_of_the_right_size_come_back_exactly():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert (decode(png(Image.fromarray(pixels)), 32) == pixels).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "1", "L", "LA"])
def test_images_of_every_mode_keep_their_colours(mode):
    if mode in ("1", "L", "LA"):
        encoded, left, right = png(halves(mode, left=(0, 0, 0), right=(255, 255, 255))), (0, 0, 0), (255, 255, 255)
    elif mode == "CMYK":
        encoded, left, right = jpeg(halves(mode)), RED, BLUE
    else:
        encoded, left, right = png(halves(mode)), RED, BLUE
    assert_colours(decode(encoded, 32), left, right)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    samples = np.full((32, 32), 128 * 257, np.uint16)
    samples[:, 16:] = 65535
    assert_colours(decode(png(Image.fromarray(samples)), 32), (128,) * 3, (255,) * 3)


def test_transparent_pixels_become_white():
    image = halves("RGBA")
    image.putalpha(Image.linear_gradient("L").rotate(90).resize((64, 64)).point(lambda a: 255 if a > 127 else 0))
    pixels = decode(png(image), 32)
    assert {tuple(pixels[16, 2]), tuple(pixels[16, -3])} in ({RED, (255, 255, 255)}, {BLUE, (255, 255, 255)})


def test_orientation_is_applied():
    image = halves(size=(64, 64))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    assert_colours(decode(jpeg(image, exif=exif), 32), BLUE, RED, tolerance=40)


def test_an_srgb_or_broken_colour_profile_changes_no_colours():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_colours(decode(png(halves(), icc_profile=srgb), 32), RED, BLUE)
    assert_colours(decode(png(halves(), icc_profile=b"no profile"), 32), RED, BLUE)


def test_a_large_image_is_cropped_to_its_centre():
    image = Image.new("RGB", (300, 100), (0, 255, 0))
    image.paste(halves(size=(100, 100)), (100, 0))
    assert_colours(decode(png(image), 50), RED, BLUE)
    assert_colours(decode(jpeg(image.resize((3000, 1000))), 50), RED, BLUE, tolerance=30)


def tiff(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "TIFF")
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims far more pixels than its data holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (png(Image.effect_noise((128, 128), 90).convert("RGB"))[:3000], "truncated"),
        (jpeg(Image.effect_noise((128, 128), 90).convert("RGB"))[:3000], "truncated"),
        (bomb(10_000, MAX_PIXELS // 10_000 + 1), "million"),
        (bomb(60_000, 60_000), "decompression bomb"),
        (png(halves(size=(18, 30))), "18x30 pixels is too small"),
        (tiff(np.zeros((64, 64), np.float32)), "32-bit"),
    ],
    ids=["empty", "text", "png", "jpeg", "bomb", "huge bomb", "tiny", "32-bit"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_image_is_rejected_with_a_reason(encoded, reason):
    with pytest.raises(BadImage, match=reason):
        decode(encoded, 64)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"


def test_no_program_is_run_to_decode_an_image(tmp_path, monkeypatch):
    """Pillow hands PostScript, whatever the file's name, to Ghostscript."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for read in (decode_whole, lambda encoded: decode(encoded, 32)):
        with pytest.raises(BadImage, match=r"not an image \(PNG, JPEG, WEBP, BMP, TIFF, GIF\)"):
            read(EPS)
    assert not (tmp_path / "ran").exists()


def test_real_bad_files_are_rejected_and_unusual_ones_decoded(shared):
    usable = {"ffhq_rgba_256.png", "grey_128.jpg", "palette_transparency.png", "png_named.jpg", "webp_named.jpg"}
    for path in (shared / "bad").iterdir():
        if path.name in usable:
            assert decode(path.read_bytes(), 128).shape == (128, 128, 3)
        else:
            with pytest.raises(BadImage):
                decode(path.read_bytes(), 128)


def outcome(encoded: bytes, size: int) -> bytes | str:
    try:
        return decode(encoded, size).tobytes()
    except BadImage as error:
        return str(error)


def assert_as_with_pillow(encoded: bytes, size: int) -> bytes | str:
    """Asserts that `decode` does the same as it does with Pillow alone; returns that."""
    result = outcome(encoded, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_decode_plain_png", lambda *_: None)
        assert outcome(encoded, size) == result
    return result


NOISE = png(Image.effect_noise((48, 40), 90).convert("RGB"))


def test_real_images_have_the_pixels_that_pillow_decodes(shared):
    for path in [*shared.glob("ffhq/**/*.png"), *(shared / "bad").iterdir()]:
        for size in (128, 96):
            assert_as_with_pillow(path.read_bytes(), size)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_only_a_png_of_rgb_samples_takes_the_fast_decoder(mode):
    encoded = png(halves(mode))
    assert (images._decode_plain_png(encoded, 64) is not None) == (mode == "RGB")
    assert_as_with_pillow(encoded, 64)
    assert decode_whole(encoded).pixels.shape == (64, 64, 3)
    assert not decode_whole(encoded).lossy


@pytest.mark.parametrize("name", ["exif", "icc_profile", "transparency"])
def test_a_png_with_more_than_samples_is_left_to_pillow(name):
    exif = Image.Exif()
    exif[0x0112] = 3
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    encoded = png(halves(), **{name: {"exif": exif, "icc_profile": srgb, "transparency": RED}[name]})
    assert images._decode_plain_png(encoded, 64) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_png_is_rejected_as_by_pillow_alone(data):
    damaged = bytearray(NOISE)
    for at in data.draw(st.lists(st.integers(0, len(NOISE) - 1), min_size=1, max_size=3)):
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    assert_as_with_pillow(bytes(damaged[: data.draw(st.integers(1, len(NOISE)))]), 40)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"tEXt", b"tRNS", b"IHDR", b"IEND"])),
    st.sampled_from([0, 1, 4, 7, 9, 32]),
    st.booleans(),
)
def test_other_chunks_change_nothing_that_pillow_alone_would_not(kinds, length, last):
    at = len(NOISE) - 12 if last else 33  # before the end, or after the header
    assert_as_with_pillow(NOISE[:at] + b"".join(chunk(kind, bytes(length)) for kind in kinds) + NOISE[at:], 40)
