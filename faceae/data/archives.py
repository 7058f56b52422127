"""Zip and tar archives: which files are in them and where, so that each is read by one request and nothing is unpacked.

A listing reads a zip's central directory or a tar's headers, once. Names are names only: nothing is written to a disk
under them.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from faceae import storage
from faceae.data.images import BadImage
from faceae.errors import InputError

ARCHIVES = (".zip", ".tar")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")

_LOCAL_HEADER = 30  # bytes before a member's name in a zip; name and extra field follow, 64 KiB each at most
_MAX_BYTES = 2**29  # of a member unpacked: more is no image that `faceae.data.images` takes, but a bomb
_TAR_BUFFER = 64 * 1024  # a request to a store costs as much time as so many bytes; often the next header is in them


class Zipped(NamedTuple):
    """How a member of a zip is packed, as the central directory says: the local header may leave it out.

    Attributes:
        size: of the packed bytes.
        crc: of the unpacked ones.
    """

    size: int
    crc: int


class Span(NamedTuple):
    """The bytes of an archive that hold one file.

    Attributes:
        offset: of the first.
        length: how many; of a zip's member from its local header on, and perhaps some more.
        zipped: of a zip's member; None where the bytes are the file.
    """

    offset: int
    length: int
    zipped: Zipped | None = None


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name; one that cannot be read at random is, too."""
    return name.lower().endswith(ARCHIVES + COMPRESSED)


@storage.retry_outages
def list_members(uri: str) -> list[tuple[str, Span]]:
    """The files of a zip or tar, each by its path there, in the order in which they are stored.

    Args:
        uri: ends in one of `ARCHIVES`, or in one of `COMPRESSED`, which are refused.

    Raises:
        InputError: the archive is incomplete, damaged or compressed as a whole.
        OSError: the storage failed.
    """
    if uri.lower().endswith(COMPRESSED):
        raise InputError(f"{uri}: a compressed tar can only be read from its beginning; unpack it, or to a .tar")
    filesystem, path = storage.resolve(uri)
    with filesystem.open_input_file(path) as file:
        try:
            return list(_zip_members(file) if uri.lower().endswith(".zip") else _tar_members(file))
        except (zipfile.BadZipFile, tarfile.TarError, ValueError, EOFError, NotImplementedError) as error:
            raise InputError(f"{uri}: is incomplete or damaged ({error}); fetch or make it again") from None


def _zip_members(file: io.BufferedIOBase) -> Iterator[tuple[str, Span]]:
    with zipfile.ZipFile(file) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        ends = [info.header_offset for info in infos[1:]] + [archive.start_dir]
    for info, end in zip(infos, ends, strict=True):
        # The local header has a length of its own; what follows the member bounds it, without a request to look.
        length = min(end - info.header_offset, _LOCAL_HEADER + 2 * 0xFFFF + info.compress_size)
        if length < _LOCAL_HEADER + info.compress_size:
            raise zipfile.BadZipFile(f"{info.filename} overlaps what comes after it")
        if not info.is_dir():
            yield info.filename, Span(info.header_offset, length, Zipped(info.compress_size, info.CRC))


def _tar_members(file: io.RawIOBase) -> Iterator[tuple[str, Span]]:
    buffered = io.BufferedReader(file, _TAR_BUFFER)
    spans: dict[str, Span] = {}
    with tarfile.open(fileobj=buffered, mode="r:") as archive:
        for info in archive:
            if info.isreg():
                spans[info.name] = Span(info.offset_data, info.size)
            if info.isreg() or (info.islnk() and info.linkname in spans):
                yield info.name.removeprefix("./"), spans[info.linkname if info.islnk() else info.name]
        buffered.seek(archive.offset)
        if buffered.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # Python takes a damaged header for the end
            raise tarfile.ReadError(f"neither a file nor the end mark at byte {archive.offset}")


def read_member(uri: str, span: Span) -> bytes:
    """Reads a file of an archive.

    Raises:
        BadImage: the archive is damaged there.
        OSError: the storage failed.
    """
    stored = storage.read(uri, span.offset, span.length)
    if len(stored) < span.length:
        raise BadImage("the archive ends before it")
    return _unzip(stored, span.zipped) if span.zipped else stored


def _unzip(stored: bytes, zipped: Zipped) -> bytes:
    if stored[:4] != zipfile.stringFileHeader:  # type: ignore[attr-defined]
        raise BadImage("damaged in the zip: there is no header where the directory says")
    flags, method, name, extra = (int.from_bytes(stored[at : at + 2], "little") for at in (6, 8, 26, 28))
    if flags & 1:
        raise BadImage("encrypted in the zip; unpack it with its password first")
    content = stored[_LOCAL_HEADER + name + extra :][: zipped.size]
    if method == zipfile.ZIP_DEFLATED:
        content = _inflate(content)
    elif method != zipfile.ZIP_STORED:
        kind = zipfile.compressor_names.get(method, method)  # type: ignore[attr-defined]
        raise BadImage(f"zipped by the method {kind}; only stored and deflate can be read")
    if zlib.crc32(content) != zipped.crc:
        raise BadImage("damaged in the zip: its checksum is another")
    return content


def _inflate(packed: bytes) -> bytes:
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflating.decompress(packed, _MAX_BYTES)
    except zlib.error as error:
        raise BadImage(f"damaged in the zip: {error}") from None
    if inflating.unconsumed_tail:
        raise BadImage(f"more than {_MAX_BYTES} bytes when unpacked")
    return content
