"""Decodes image files to square RGB pixels, or says why a file cannot be used."""

from __future__ import annotations

import contextlib
import io
import warnings
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from faceae.data.metadata import Metadata, metadata_of

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_PIXELS = 100_000_000
"""Larger images are refused before decoding: FFHQ's have 1 million pixels, a decompression bomb has billions."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own limit is narrower
_STRIP = 1024  # rows

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""The formats that are decoded, by Pillow's names. Pillow knows more, and has Ghostscript run what is in an EPS."""

_LOSSLESS = frozenset({"PNG", "BMP", "TIFF", "GIF"})

_SRGB = ImageCms.createProfile("sRGB")

_PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_RGB = b"\x08\x02\0\0\0"  # 8 bits a sample, RGB, deflated, filtered by rows, not interlaced
# Lengths in bytes of the chunks that bear on no pixel. Others may hold a profile, an orientation or a transparency.
_PNG_PLAIN = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7, b"IEND": 0}


class BadImage(Exception):  # noqa: N818  (it describes the data, and costs a line in a list, not the run)
    """An image that cannot be used; the message is the reason, for people to read."""


Stored = bytes | NDArray[np.uint8] | BadImage
"""What is stored for an image: an encoded file, (S, S, 3) pixels, or why it cannot be read."""


def decode(encoded: bytes, size: int) -> NDArray[np.uint8]:
    """Decodes an image file of one of `FORMATS`, whatever its file name.

    The EXIF orientation is applied, colours with an embedded profile are converted to sRGB, transparent images are
    laid over white, 16-bit samples are scaled to 8 bits, and the centre square is resized to `size` (Lanczos).

    Args:
        encoded: the file's bytes.
        size: side of the result in pixels.

    Returns:
        (size, size, 3) uint8, sRGB.

    Raises:
        BadImage: the file is damaged or not an image, or the image has a side of less than half of `size`, more than
            `MAX_PIXELS` pixels, or 32-bit samples.
    """
    if (pixels := _decode_plain_png(encoded, size)) is not None:
        return pixels if pixels.shape == (size, size, 3) else np.asarray(_square(Image.fromarray(pixels), size))
    with _opened(encoded) as image:
        check_dimensions(image.size, size)
        # JPEG decodes at a half, a quarter or an eighth of its size at almost no cost; from twice the final size,
        # Lanczos is accurate enough.
        image.draft(None, (2 * size, 2 * size))
        _upright(image)
        return np.asarray(_square(to_rgb(image), size))


class Picture(NamedTuple):
    """A picture at its own size.

    Attributes:
        pixels: (H, W, 3) uint8; sRGB, or in the colours of the profile in `metadata`.
        lossy: whether its file format alters pixels, as JPEG does.
        metadata: what a file of the restored picture takes over.
    """

    pixels: NDArray[np.uint8]
    lossy: bool
    metadata: Metadata = Metadata()


def decode_whole(encoded: bytes) -> Picture:
    """Decodes an image file as `decode` does, but keeps its size, its shape and, if they are RGB, its samples.

    The samples of RGB are not converted to sRGB, so that a restored picture can keep the known ones to the bit, and
    its profile.

    Args:
        encoded: the file's bytes.

    Raises:
        BadImage: the file is damaged or not an image, or the image has more than `MAX_PIXELS` pixels or 32-bit samples.
    """
    if (pixels := _decode_plain_png(encoded, 1)) is not None:
        with _opened(encoded) as header:
            return Picture(pixels, False, Metadata(dpi=header.info.get("dpi", ())))
    with _opened(encoded) as image:
        check_dimensions(image.size, 1)
        _upright(image)
        metadata = metadata_of(image)
        rgb = image if image.mode == "RGB" and not image.has_transparency_data else to_rgb(image)
        return Picture(_pixels(rgb), image.format not in _LOSSLESS, metadata)


def dimensions(encoded: bytes) -> tuple[int, int]:
    """Returns the width and the height that an image file says it has; decodes nothing.

    Raises:
        BadImage: the file is not an image.
    """
    with _opened(encoded) as image:
        return image.size


def decode_grey(encoded: bytes) -> Image.Image:
    """Decodes an image file to its brightness, at its own size; what is transparent is black.

    Raises:
        BadImage: as `decode_whole` says.
    """
    with _opened(encoded) as image:
        check_dimensions(image.size, 1)
        _upright(image)
        plain = image.mode in ("1", "L") and not image.has_transparency_data
        return (image if plain else to_rgb(image, "black")).convert("L")


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Returns the pixels of an RGB image, (H, W, 3) uint8, in strips: Pillow's own conversion holds three copies."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):
        box = (0, top, image.width, min(top + _STRIP, image.height))
        pixels[top : top + _STRIP] = np.asarray(image.crop(box))
    return pixels


def _decode_plain_png(encoded: bytes, size: int) -> NDArray[np.uint8] | None:
    """Decodes a PNG whose samples are its pixels, three times as fast as Pillow and to the same (H, W, 3).

    Returns None for any other file: Pillow decodes it, or says what is wrong. Damage is noticed by the chunks' CRC-32;
    unlike Pillow, this decoder does not check zlib's own sum, which a file damaged before it was written could fail.
    """
    if not _is_plain_png(encoded):
        return None
    width, height = (int.from_bytes(encoded[at : at + 4]) for at in (16, 20))
    try:
        check_dimensions((width, height), size)
        return decode_image_png_u8(encoded, (height, width), "rgb")
    except Exception:  # the decoder raises no narrower class
        return None


def _is_plain_png(encoded: bytes) -> bool:
    """Whether a file is a complete PNG of 8-bit RGB samples, and nothing but its samples bears on its pixels."""
    if not encoded.startswith(_PNG_HEADER) or encoded[24:29] != _PNG_RGB:
        return False
    at, kind = 33, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(encoded[at : at + 4]), encoded[at + 4 : at + 8]
        end = at + 12 + length
        if kind != b"IDAT":
            whole = zlib.crc32(encoded[at + 4 : end - 4]).to_bytes(4) == encoded[end - 4 : end]
            if _PNG_PLAIN.get(kind) != length or not whole:  # Pillow refuses a damaged one, the other decoder does not
                return False
        at = end
    return True


@contextlib.contextmanager
def _opened(encoded: bytes) -> Iterator[Image.Image]:
    """Opens an image; any error inside the `with` block becomes a `BadImage`."""
    if not encoded:
        raise BadImage("the file is empty")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"not an image ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise BadImage(str(error)) from None
    except Exception as error:  # Pillow's decoders raise many kinds (OSError, SyntaxError, struct.error, ...)
        raise BadImage(f"damaged: {str(error) or type(error).__name__}") from None


def _upright(image: Image.Image) -> None:
    """Decodes an image and applies its EXIF orientation; drops EXIF that is damaged, which harms no pixel."""
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # Pillow raises many kinds
        image.info.pop("exif", None)


def check_dimensions(dimensions: tuple[int, int], size: int) -> None:
    """Raises BadImage if an image of this width and height is too large, or too small for squares of side `size`."""
    width, height = dimensions
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width}x{height} pixels is more than the {MAX_PIXELS // 1_000_000} million allowed")
    if 2 * min(width, height) < size:
        raise BadImage(f"{width}x{height} pixels is too small: less than half of {size}x{size}")


def to_rgb(image: Image.Image, background: str = "white") -> Image.Image:
    """Converts an image of any mode to RGB; treats colour profiles, transparency and 16-bit samples as `decode` says.

    Args:
        image: the image.
        background: the colour over which a transparent image is laid.

    Raises:
        BadImage: the image has 32-bit samples, which have no agreed range.
    """
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadImage(f"32-bit samples (Pillow mode {image.mode}) have no agreed range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, background)
        return Image.alpha_composite(canvas, image).convert("RGB")
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
            assert converted is not None
            return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # broken profiles are common and harmless: the samples are taken as sRGB
    return image if image.mode == "RGB" else image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
