"""Archives: each is listed and read, member by member, or refused in one line."""

import io
import tarfile
import zipfile

import pytest
from fuzzing import assert_line, contract, examples, mutated
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import tarred, zipped

from faceae.data.archives import Span, list_members, read_members
from faceae.data.images import BadImage
from faceae.errors import InputError

FILES = {"a/1.png": b"first " * 99, "a/2.png": b"", "b/é.png": bytes(700), "c" * 120 + ".png": b"fourth"}


def linked():
    """A tar with links, folders, attributes and a sparse file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("1.png", tarfile.REGTYPE), ("2.png", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "1.png" * (kind == tarfile.LNKTYPE), 5 * (name == "1.png")
            info.pax_headers = {"comment": "x", "mtime": "1.5"}
            archive.addfile(info, io.BytesIO(b"bytes"))
        info = tarfile.TarInfo("3.png")
        info.size = 512
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99"}
        archive.addfile(info, io.BytesIO(b"1\n0\n10\n".ljust(512, b"\0")))
    return buffer.getvalue()


ZIPS = [
    zipped(FILES, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], comment=b"a comment"),
    zipped({name: content for name, content in FILES.items() if content}, [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]),
]
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(zipfile, "ZIP64_LIMIT", 100)
    patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    ZIPS.append(zipped(FILES, [zipfile.ZIP_DEFLATED]))
TARS = [tarred(FILES), tarred(FILES, tarfile.GNU_FORMAT), linked()]


def directory(content):
    """Returns a zip's directory and what follows it, where nearly every byte matters."""
    return content.index(b"PK\1\2")


def nameless():
    """Returns a zip with a file without a name: what was the name is its comment."""
    content = bytearray(zipped({"x": b"bytes"}))
    at = directory(content)
    content[at + 28], content[at + 32] = 0, 1
    return bytes(content)


@st.composite
def zips(draw):
    content = draw(st.sampled_from(ZIPS))
    if draw(st.booleans()):
        return draw(mutated([content]))
    at = directory(content)
    return content[:at] + draw(mutated([content[at:]]))


@st.composite
def tars(draw):
    """Tars whose headers have the checksums that they should have, for most of the time."""
    content = bytearray(draw(mutated(TARS)))
    if draw(st.integers(0, 3)):
        for at in range(0, len(content) - 511, 512):
            if content[at + 257 : at + 262] == b"ustar":
                summed = sum(content[at : at + 148]) + 8 * 32 + sum(content[at + 156 : at + 512])
                content[at + 148 : at + 156] = b"%06o\0 " % summed
    return bytes(content)


def header(kind, size, content=b""):
    """Returns one header of a tar, of any kind, and what it says of itself."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + content.ljust(-len(content) // 512 * -512, b"\0")


def read(path, content):
    path.write_bytes(content)
    with contract(InputError):
        for name, span in list_members(str(path)):
            assert isinstance(name, str)
            stored = read_members(str(path), [span])[0] if isinstance(span, Span) else span
            assert isinstance(stored, bytes | BadImage)
            if isinstance(stored, BadImage):
                assert_line(str(stored))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("archives")


@examples(few=200, many=2500)
@given(zips())
@example(nameless())
@example(ZIPS[0][100:])
def test_every_zip_is_read_or_refused(folder, content):
    read(folder / "a.zip", content)


@examples(few=200, many=2500)
@given(tars())
@example(header(tarfile.XHDTYPE, 14, b"14 size=-1536\n") + TARS[0])
@example(header(tarfile.GNUTYPE_LONGNAME, 5, b"name\0") * 1500 + TARS[0])
@example(header(tarfile.XHDTYPE, 2**40) + TARS[0])
def test_every_tar_is_read_or_refused(folder, content):
    read(folder / "a.tar", content)
