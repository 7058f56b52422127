"""What the file of a restored picture has of its source: metadata, format and, to the bit, the samples."""

import io

import numpy as np
import pytest
from pictures import png
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import get_sampling
from PIL.PngImagePlugin import PngInfo

from faceae.data.images import decode_whole
from faceae.data.metadata import FORMATS, LONGEST, encode
from faceae.data.synthetic import portrait

FACE = Image.fromarray(portrait(1, 48)).crop((0, 0, 48, 32))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def exif(orientation=6):
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "a camera"
    return tags


def saved(image=FACE, form="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def written(encoded, extension=".png"):
    """The file that a picture is written to if nothing is restored."""
    picture = decode_whole(encoded)
    return Image.open(io.BytesIO(encode(picture.pixels, picture.metadata, extension)))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp"])
def test_exif_profile_and_xmp_are_kept_and_the_orientation_is_applied(form, extension):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    more = {"pnginfo": info} if form == "PNG" else {"xmp": xmp}
    image = written(saved(form=form, exif=exif(), icc_profile=SRGB, dpi=(300, 300), **more), extension)
    assert image.size == (32, 48)
    assert dict(image.getexif()) == {0x010F: "a camera"}
    assert image.info["icc_profile"] == SRGB
    assert image.info["xmp"] == xmp
    if "WEBP" not in (form, image.format):
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_samples_with_a_profile_stay_to_the_bit_and_keep_it():
    wide = SRGB.replace(b"sRGB", b"wRGB")  # any profile will do
    image = written(png(FACE, icc_profile=wide))
    assert (np.asarray(image) == np.asarray(FACE)).all()
    assert image.info["icc_profile"] == wide


def test_the_texts_of_a_png_are_kept():
    info = PngInfo()
    info.add_text("Title", "Ада")
    info.add_text("Comment", "x" * 3000, zip=True)
    assert written(png(FACE, pnginfo=info)).text == {"Title": "Ада", "Comment": "x" * 3000}
    assert written(png(FACE, pnginfo=info), ".jpg").format == "JPEG"


def test_a_jpeg_has_its_sources_tables_and_changes_little():
    source = Image.open(io.BytesIO(encoded := saved(quality=81, subsampling=1)))
    image = written(encoded, ".jpg")
    assert image.quantization == source.quantization
    assert get_sampling(image) == 1
    off = np.asarray(image).astype(int) - np.asarray(source)
    assert 0 < np.abs(off).max() <= 24
    assert np.abs(off).mean() < 1


@pytest.mark.parametrize("extension", FORMATS)
def test_all_formats_but_jpeg_keep_every_pixel(extension):
    image = written(png(FACE), extension)
    assert image.format == FORMATS[extension]
    assert (np.asarray(image) == np.asarray(FACE)).all() == (image.format != "JPEG")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_a_grey_picture_stays_grey(mode):
    image = written(png(FACE.convert("L").convert(mode), icc_profile=SRGB))
    assert image.mode == "L"
    assert "icc_profile" not in image.info  # it is for RGB


def test_alpha_is_laid_over_white_and_16_bits_become_8():
    clear = FACE.copy()
    clear.putalpha(0)
    assert np.asarray(written(png(clear))).min() == 255
    grey = Image.fromarray(np.full((8, 8), 0x1234, np.uint16))
    assert np.asarray(written(png(grey))).max() == 0x12


@pytest.mark.parametrize(
    "options",
    [
        {"icc_profile": b"\0" * 16 + b"RGB " + b"\0" * LONGEST},
        {"icc_profile": b"junk"},
        {"icc_profile": LAB},
        {"exif": b"Exif\0\0" + b"\0" * (LONGEST + 1)},
    ],
    ids=["a large profile", "junk", "a profile of other samples", "large EXIF"],
)
def test_metadata_that_are_too_large_or_wrong_are_left_out(options):
    form = "JPEG" if "icc_profile" in options else "PNG"  # Pillow reads no profile of more than 1 MB from a PNG
    image = written(encoded := saved(form=form, **options))
    assert image.info.keys().isdisjoint(options)
    assert (np.asarray(image) == np.asarray(Image.open(io.BytesIO(encoded)))).all()


def test_metadata_that_cannot_be_written_cost_themselves_only():
    image = written(png(FACE, exif=b"Exif\0\0" + b"\0" * 70_000), ".jpg")  # JPEG takes 64 kB
    assert image.format == "JPEG"
    assert "exif" not in image.info
