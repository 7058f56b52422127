"""Lists the files in zip and tar archives, and reads adjacent ones with one request; nothing is unpacked to disk.

Listing an archive reads a zip's central directory or a tar's headers, once. The names of members serve only as names:
no file is ever written under them.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pyarrow import NativeFile

from faceae import storage
from faceae.data.images import BadImage
from faceae.errors import InputError

ARCHIVES = (".zip", ".tar")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")

_LOCAL_HEADER = 30  # bytes before a member's name in a zip; the name and an extra field follow, at most 64 KiB each
_MAX_BYTES = 2**29  # limit for a member, unpacked: a larger one is a zip bomb, not an image that we would accept
_MAX_HEADER = 2**20  # bytes of a tar's header for a long name or for attributes, which Python reads into memory
_HEADER_REQUEST = 64 * 1024  # bytes to begin with when looking for a tar's next header
_MAX_GAP = 256 * 1024  # bytes between two files that are read and thrown away rather than making another request
_MAX_REQUEST = 4 * 2**20  # bytes of a request for several files; one task makes several at a time


class Zipped(NamedTuple):
    """How a member of a zip is packed, according to the central directory: the local header may leave it out.

    Attributes:
        size: number of packed bytes.
        crc: CRC-32 of the unpacked bytes.
    """

    size: int
    crc: int


class Span(NamedTuple):
    """The bytes of an archive that hold one file.

    Attributes:
        offset: position of the first byte.
        length: number of bytes. For a member of a zip it counts from the local header on, and may include a few bytes
            that follow the member.
        zipped: how a member of a zip is packed; None if the bytes are the file itself.
    """

    offset: int
    length: int
    zipped: Zipped | None = None


def is_archive(name: str) -> bool:
    """Whether a file is an archive, judged by its name. Includes compressed tars, which have no random access."""
    return name.lower().endswith(ARCHIVES + COMPRESSED)


@storage.retry_outages
def list_members(uri: str) -> list[tuple[str, Span | BadImage]]:
    """Lists the files of a zip or tar, in the order of storage.

    For each it gives the path in the archive, and where its bytes are, or why it cannot be read.

    Args:
        uri: the archive; ends in one of `ARCHIVES`, or in one of `COMPRESSED`, which are refused.

    Raises:
        InputError: the archive is incomplete, damaged or compressed as a whole.
        OSError: the storage failed.
    """
    if uri.lower().endswith(COMPRESSED):
        raise InputError(
            f"{uri}: a compressed tar can only be read from its beginning; unpack it, or decompress it to a .tar"
        )
    filesystem, path = storage.resolve(uri)
    with filesystem.open_input_file(path) as file:
        try:
            return list(_zip_members(file) if uri.lower().endswith(".zip") else _tar_members(file))
        except RecursionError:
            raise InputError(f"{uri}: is damaged (a file has too many headers); fetch or make it again") from None
        except (zipfile.BadZipFile, tarfile.TarError, ValueError, LookupError, EOFError, NotImplementedError) as error:
            raise InputError(f"{uri}: is incomplete or damaged ({error}); fetch or make it again") from None


def _zip_members(file: io.BufferedIOBase) -> Iterator[tuple[str, Span | BadImage]]:
    with zipfile.ZipFile(file) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        ends = [info.header_offset for info in infos[1:]] + [archive.start_dir]
    if infos and infos[0].header_offset < 0:
        raise zipfile.BadZipFile(
            f"its directory is {-infos[0].header_offset} bytes nearer to its beginning than it says"
        )
    for info, end in zip(infos, ends, strict=True):
        # The length of the local header is unknown without another request, but the next member's offset bounds it.
        length = min(end - info.header_offset, _LOCAL_HEADER + 2 * 0xFFFF + info.compress_size)
        if length < _LOCAL_HEADER + info.compress_size:
            raise zipfile.BadZipFile(f"{info.filename} overlaps the member after it")
        if not info.is_dir():
            span = Span(info.header_offset, length, Zipped(info.compress_size, info.CRC))
            yield info.filename, _too_large(info.compress_size) or span


def _too_large(size: int) -> BadImage | None:
    return BadImage(f"{size} bytes in the archive, more than {_MAX_BYTES}") if size > _MAX_BYTES else None


class _ReadAhead(io.RawIOBase):
    """Reads a file forwards, in requests that grow as long as little between them is skipped.

    So the headers of a tar of thumbnails are read with few requests, and those of a tar of large files in few bytes.
    """

    def __init__(self, file: NativeFile) -> None:
        self._file, self._size, self._ahead = file, file.size(), _HEADER_REQUEST
        self._at = self._start = 0
        self._held = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only absolute positions")
        self._at = offset
        return offset

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  (what io hands in)
        end = self._start + len(self._held)
        if not self._start <= self._at < end:
            self._ahead = min(2 * self._ahead, _MAX_REQUEST) if self._at - end <= self._ahead else _HEADER_REQUEST
            count = max(0, min(self._ahead, self._size - self._at))
            self._start, self._held = self._at, self._file.read_at(count, self._at) if count else b""
        piece = self._held[self._at - self._start :][: len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class _Header(tarfile.TarInfo):
    """A header of a tar that is refused before it takes much memory, as one of 8 GB would."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Overrides what tarfile calls for each header of any kind, and says may be overridden."""
        if self.type in _EXTENDED and self.size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes at byte {archive.offset}")
        header: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return header


_EXTENDED = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)


def _tar_members(file: NativeFile) -> Iterator[tuple[str, Span | BadImage]]:
    buffered = io.BufferedReader(_ReadAhead(file), tarfile.BLOCKSIZE)
    spans: dict[str, Span | BadImage] = {}
    with tarfile.open(fileobj=buffered, mode="r:", tarinfo=_Header) as archive:
        for info in archive:
            if info.size < 0:  # the next header would be one that was read already
                raise tarfile.ReadError(f"{info.name} has {info.size} bytes")
            if info.issparse():
                spans[info.name] = BadImage("stored in the tar as a sparse file; pack it without --sparse")
            elif info.isreg():
                spans[info.name] = _too_large(info.size) or Span(info.offset_data, info.size)
            if info.isreg() or (info.islnk() and info.linkname in spans):
                yield info.name.removeprefix("./"), spans[info.linkname if info.islnk() else info.name]
        buffered.seek(archive.offset)
        if buffered.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # Python takes a damaged header for the end
            raise tarfile.ReadError(f"neither a file nor the end marker at byte {archive.offset}")


def is_adjacent(spans: Sequence[Span], span: Span) -> bool:
    """Whether a file is to be read with those before it in the same archive: it follows them, and not too far away."""
    gap = span.offset - _end(spans[-1])
    return 0 <= gap <= _MAX_GAP and _end(span) - spans[0].offset <= _MAX_REQUEST


def read_members(uri: str, spans: Sequence[Span]) -> list[bytes | BadImage]:
    """Reads files of an archive, with one request.

    Args:
        uri: the archive.
        spans: where the files are, in the order of storage.

    Returns:
        For each file its content, or why it cannot be used: the archive is damaged there, or the file is encrypted or
        packed by an unsupported method.

    Raises:
        OSError: the storage failed.
    """
    start = spans[0].offset
    stored = memoryview(storage.read(uri, start, _end(spans[-1]) - start))
    return [_unpack(bytes(stored[span.offset - start : _end(span) - start]), span) for span in spans]


def _end(span: Span) -> int:
    return span.offset + span.length


def _unpack(stored: bytes, span: Span) -> bytes | BadImage:
    if len(stored) < span.length:
        return BadImage("the archive ends before the end of this file")
    try:
        return _unzip(stored, span.zipped) if span.zipped else stored
    except BadImage as error:
        return error


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
        raise BadImage(f"compressed with {kind}; only stored and deflated files can be read")
    if zlib.crc32(content) != zipped.crc:
        raise BadImage("damaged in the zip: its checksum does not match")
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
