"""What the file of a restored picture takes over from the picture's own file, besides the pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling
from PIL.PngImagePlugin import PngImageFile, PngInfo

LONGEST = 4 * 2**20
"""Largest size in bytes of a piece of metadata, such as a colour profile: what is larger is left out."""

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""The formats in which pictures are written, by the extension of a file's name."""

_EXIF = b"Exif\0\0"
_XMP = "XML:com.adobe.xmp"  # the keyword under which PNG has it
_QUALITY = 95  # of a JPEG whose source was none
_PNG_LEVEL = 4  # portraits take half the time of zlib's default, 6, for 8 % more bytes


class Metadata(NamedTuple):
    """What a file of a restored picture takes over.

    Attributes:
        grey: whether the picture has no colours.
        exif: EXIF, without the orientation, which has been applied to the pixels.
        icc: the ICC profile of the samples.
        xmp: XMP.
        text: keywords and texts of a PNG.
        dpi: resolution, horizontal and vertical; empty if unknown.
        qtables: the quantization tables of a JPEG, 64 numbers each.
        subsampling: the chroma subsampling of a JPEG as Pillow numbers it; -1 if unknown.
    """

    grey: bool = False
    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    text: Sequence[Sequence[str]] = ()
    dpi: Sequence[float] = ()
    qtables: Sequence[Sequence[int]] = ()
    subsampling: int = -1

    @property
    def info(self) -> dict[str | tuple[int, int], Any]:
        """What a PIL image has in its `info`, as far as it matters to the pixels."""
        pieces: dict[str | tuple[int, int], Any] = {"exif": self.exif, "icc_profile": self.icc, "dpi": tuple(self.dpi)}
        return {name: value for name, value in pieces.items() if value}

    def coloured(self) -> Metadata:
        """Returns the same for a picture that got colours; the profile of a grey one does not fit it."""
        return self._replace(grey=False, icc=b"") if self.grey else self


def metadata_of(image: Image.Image) -> Metadata:
    """Returns the metadata of a decoded image, whose EXIF orientation has been applied.

    They come from a file that nobody has checked: what is too large, or does not fit the pixels, is left out.
    """
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")
    info: dict[Any, Any] = image.info
    exif, icc, xmp = (_bounded(info.get(name)) for name in ("exif", "icc_profile", "xmp"))
    text = image.text.items() if isinstance(image, PngImageFile) else ()
    texts = [(key, str(value)) for key, value in text if key != _XMP and not key.startswith("Raw profile")]
    jpeg = image if isinstance(image, JpegImageFile) and image.mode in ("L", "RGB") else None
    return Metadata(
        grey,
        _EXIF + exif.removeprefix(_EXIF) if exif else b"",
        icc if icc[16:20] == (b"GRAY" if grey else b"RGB ") else b"",
        xmp,
        texts if sum(len(value) for _, value in texts) <= LONGEST else (),
        [float(dots) for dots in info.get("dpi", ())],
        [list(table) for _, table in sorted(jpeg.quantization.items())] if jpeg else (),
        get_sampling(jpeg) if jpeg else -1,
    )


def _bounded(value: object) -> bytes:
    return value if isinstance(value, bytes) and len(value) <= LONGEST else b""


def encode(pixels: NDArray[np.uint8], metadata: Metadata, extension: str) -> memoryview[int]:
    """Returns the file of a picture.

    A JPEG has the quantization tables and the chroma subsampling of its source, which change known pixels least; all
    other formats are lossless. BMP holds no metadata but the resolution, and TIFF no EXIF and XMP.

    Args:
        pixels: (H, W, 3) uint8; if the picture is grey, the brightness is written.
        metadata: what the picture's own file had.
        extension: the format, a key of `FORMATS`.
    """
    image = Image.fromarray(pixels)
    if metadata.grey:
        image = image.convert("L")
    form = FORMATS[extension]
    try:
        return _save(image, form, _options(form, metadata))
    except Exception:  # Pillow raises many kinds for metadata that it read, but cannot write
        return _save(image, form, _options(form, Metadata()))


def _options(form: str, metadata: Metadata) -> dict[str, Any]:
    """Returns the arguments of Pillow's `Image.save`."""
    options: dict[str, Any] = {"dpi": tuple(metadata.dpi) or None}
    if form != "BMP":
        options["icc_profile"] = metadata.icc or None
    if form in ("PNG", "JPEG", "WEBP") and metadata.exif:
        options["exif"] = metadata.exif
    if form in ("JPEG", "WEBP") and metadata.xmp:
        options["xmp"] = metadata.xmp
    if form == "PNG":
        options["compress_level"] = _PNG_LEVEL
        options["pnginfo"] = info = PngInfo()
        for key, value in [*metadata.text, *([(_XMP, metadata.xmp.decode())] if metadata.xmp else [])]:
            (info.add_itxt if key == _XMP else info.add_text)(key, value)
    elif form == "JPEG":
        tables = [list(table) for table in metadata.qtables]
        options |= {"qtables": tables, "subsampling": metadata.subsampling} if tables else {"quality": _QUALITY}
    elif form == "WEBP":
        options["lossless"] = True
    elif form == "TIFF":
        options["compression"] = "tiff_deflate"
    return {name: value for name, value in options.items() if value is not None}


def _save(image: Image.Image, form: str, options: dict[str, Any]) -> memoryview[int]:
    encoded = io.BytesIO()
    image.save(encoded, form, **options)
    return encoded.getbuffer()
