"""Zip and tar archives as sources: what is listed, what is read back, and the errors for damaged archives."""

import io
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import SIZE, png, read_all, tarred, zipped
from PIL import Image

from faceae import storage
from faceae.config import Data
from faceae.data.archives import list_members, read_members
from faceae.data.sources import list_sources
from faceae.data.split import Split
from faceae.data.synthetic import portrait
from faceae.errors import InputError

PORTRAITS = {number: portrait(number, SIZE) for number in range(6)}
FILES = {f"{number:05d}.png": png(Image.fromarray(image)) for number, image in PORTRAITS.items()}


class Pipe(io.BytesIO):
    """A stream without seek: zipfile then writes the sizes after the data."""

    def seekable(self):
        return False

    def tell(self):
        raise OSError

    def seek(self, *_):
        raise OSError


def contents(path):
    return {name: read_members(str(path), [span])[0] for name, span in list_members(str(path))}


def reasons(path):
    return set(read_all(list_sources([str(path)], "--data.source").entries).values())


part = st.text("abcé顔 ._-", min_size=1, max_size=60).filter(lambda part: part.strip(".") == part)
trees = st.dictionaries(
    st.lists(part, min_size=1, max_size=4).map("/".join), st.binary(max_size=3000), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(trees, st.permutations([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.booleans(), st.binary(max_size=40))
def test_a_zip_is_read_back_as_it_was_written(files, methods, streamed, comment):
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        Path(file.name).write_bytes(zipped(files, methods, Pipe() if streamed else None, comment))
        assert contents(file.name) == files


@settings(max_examples=60, deadline=None)
@given(trees, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_a_tar_is_read_back_as_it_was_written(files, form):
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        Path(file.name).write_bytes(tarred(files, form))
        assert contents(file.name) == files


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([".zip", ".tar"]), st.data())
def test_an_archive_cut_off_anywhere_is_a_one_line_error(kind, data):
    whole = zipped(FILES) if kind == ".zip" else tarred(FILES)
    end = len(whole) if kind == ".zip" else len(whole.rstrip(b"\0")) // 512 * 512 + 1024  # the end mark's first block
    cut = data.draw(st.integers(0, end - 1))
    with tempfile.NamedTemporaryFile(suffix=kind) as file:
        Path(file.name).write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"is incomplete or damaged \(.+\); fetch or make it again") as error:
            list_sources([file.name], "--data.source")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"--data.source {file.name}: ")


def test_a_zip64_archive_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 500)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    (tmp_path / "a.zip").write_bytes(archive := zipped(FILES, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    assert b"PK\x06\x06" in archive  # zip64's own end record
    assert contents(tmp_path / "a.zip") == FILES


@pytest.mark.parametrize("layout", ["thumbnails128x128/{0:05d}.png", "thumbnails128x128/{1:05d}/{0:05d}.png"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_ffhq_as_packed_by_kaggle_and_nvidia_is_split_as_its_authors_do(tmp_path, layout, form):
    files = {layout.format(number, number // 1000 * 1000): b"x" for number in (0, 7, 59_999, 60_000, 69_999)}
    folder, archive = tmp_path / "folder", tmp_path / f"ffhq.{form}"
    for name, content in files.items():
        storage.write(str(folder / name), content)
    archive.write_bytes(zipped(files) if form == "zip" else tarred(files))
    splits = [Split(Data(source=(str(source),))) for source in (folder, archive)]
    assert [[entry.image_id for entry in split.train + split.val] for split in splits] == [
        [entry.image_id for entry in splits[0].train + splits[0].val]
    ] * 2
    assert sorted(entry.image_id for entry in splits[1].val) == sorted(files)[-2:]
    assert "FFHQ" in splits[1].rule


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_other_files_are_ignored_and_apple_doubles_are_refused(tmp_path, form):
    files = FILES | {"notes.txt": b"x", "__MACOSX/._00001.png": b"x", "._00002.png": b"x", "LICENSE": b""}
    path = tmp_path / f"a.{form}"
    path.write_bytes(zipped(files) if form == "zip" else tarred(files))
    listing = list_sources([str(path)], "--data.source")
    assert [entry.image_id for entry in listing.entries] == list(FILES)
    assert [name for name, _ in listing.refused] == ["__MACOSX/._00001.png", "._00002.png"]


def test_members_that_cannot_be_unpacked_are_rejected_with_a_reason(tmp_path):
    one = dict([next(iter(FILES.items()))])
    locked = bytearray(zipped(one))
    locked[6] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    (tmp_path / "packed.zip").write_bytes(zipped(one, [zipfile.ZIP_LZMA]))
    for at, name in ((60, "flipped.zip"), (0, "moved.zip")):
        damaged = bytearray(zipped(one))
        damaged[at] ^= 1
        (tmp_path / name).write_bytes(damaged)
    assert reasons(tmp_path / "locked.zip") == {"encrypted in the zip; unpack it with its password first"}
    assert reasons(tmp_path / "packed.zip") == {"compressed with lzma; only stored and deflated files can be read"}
    assert reasons(tmp_path / "flipped.zip") == {"damaged in the zip: its checksum does not match"}
    assert reasons(tmp_path / "moved.zip") == {"damaged in the zip: there is no header where the directory says"}


def test_a_zip_whose_directory_is_nearer_to_its_beginning_than_it_says_is_damaged(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(FILES)[100:])
    with pytest.raises(
        InputError, match=r"damaged \(its directory is 100 bytes nearer to its beginning than it says\)"
    ):
        list_sources([str(tmp_path)], "--data.source")


def test_data_before_a_zip_shifts_its_members_too(tmp_path):
    """As in an archive that unpacks itself."""
    (tmp_path / "a.zip").write_bytes(b"#!/bin/sh" * 100 + zipped(FILES))
    assert contents(tmp_path / "a.zip") == FILES


def test_data_within_a_zip_costs_a_line_for_each_image(tmp_path):
    whole = zipped(FILES)
    directory = whole.index(b"PK\1\2")
    (tmp_path / "a.zip").write_bytes(whole[:directory] + bytes(100) + whole[directory:])
    assert reasons(tmp_path / "a.zip") == {"damaged in the zip: there is no header where the directory says"}


def header(kind, size, name="a.png", pax=b""):
    """One header of a tar, of any kind, and what it says of itself."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + pax.ljust(-len(pax) // 512 * -512, b"\0")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (header(tarfile.XHDTYPE, 2**33), "a header of 8589934592 bytes at byte"),
        (header(tarfile.GNUTYPE_LONGNAME, 2**33), "a header of 8589934592 bytes at byte"),
        (header(tarfile.GNUTYPE_LONGNAME, 5, pax=b"name\0") * 1500, "a file has too many headers"),
        (header(tarfile.XHDTYPE, 14, pax=b"14 size=-1536\n"), r"00000\.png has -1536 bytes"),
    ],
    ids=["8 GB of attributes", "8 GB of a name", "1500 names of one file", "a member that ends before it begins"],
)
def test_a_tar_with_odd_headers_is_refused_at_once(tmp_path, start, words):
    (tmp_path / "a.tar").write_bytes(start + tarred(FILES))
    with pytest.raises(InputError, match=words):
        list_sources([str(tmp_path)], "--data.source")


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_file_in_a_tar_costs_a_line(tmp_path, form):
    with open(tmp_path / "sparse.png", "wb") as file:
        file.write(FILES["00000.png"])
        file.truncate(2**20)
    (tmp_path / "00001.png").write_bytes(FILES["00001.png"])
    names = ["sparse.png", "00001.png"]
    subprocess.run(["tar", "--sparse", f"--format={form}", "-cf", "a.tar", *names], cwd=tmp_path, check=True)
    listing = list_sources([str(tmp_path / "a.tar")], "--data.source")
    assert listing.refused == [("sparse.png", "stored in the tar as a sparse file; pack it without --sparse")]
    assert [type(found) for found in read_all(listing.entries).values()] == [np.ndarray]


def test_a_member_that_is_too_large_for_an_image_costs_a_line(tmp_path):
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(header(tarfile.REGTYPE, 2**30))
        file.truncate(512 + 2**30)
        file.seek(0, 2)
        file.write(tarred({"b.png": FILES["00000.png"]}))
    listing = list_sources([str(tmp_path)], "--data.source")
    assert listing.refused == [("a.png", "1073741824 bytes in the archive, more than 536870912")]
    assert [entry.image_id for entry in listing.entries] == ["b.png"]


def test_members_of_an_archive_that_shrank_since_it_was_listed_are_rejected(tmp_path):
    (tmp_path / "a.tar").write_bytes(tarred(FILES))
    entries = list_sources([str(tmp_path)], "--data.source").entries
    (tmp_path / "a.tar").write_bytes(b"")
    assert set(read_all(entries).values()) == {"the archive ends before the end of this file"}


def test_a_damaged_header_inside_a_tar_is_not_taken_for_its_end(tmp_path):
    damaged = bytearray(tarred(FILES))
    damaged[damaged.index(b"00003.png")] ^= 1
    (tmp_path / "a.tar").write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.tar: is incomplete or damaged"):
        list_sources([str(tmp_path)], "--data.source")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.TAR.XZ"])
def test_a_compressed_tar_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match="a compressed tar can only be read from its beginning; unpack it"):
            list_sources([str(source)], "--data.source")


def test_a_hard_link_in_a_tar_is_the_file_that_it_links_to(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "copy.png").hardlink_to(tmp_path / "00004.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in [*FILES, "copy.png"]:
            archive.add(tmp_path / name, f"./{name}")
    assert contents(tmp_path / "a.tar") == FILES | {"copy.png": FILES["00004.png"]}


def test_an_archive_among_images_is_not_silently_left_out(tmp_path):
    (tmp_path / "a.png").write_bytes(FILES["00000.png"])
    (tmp_path / "more.zip").write_bytes(zipped(FILES))
    listing = list_sources([str(tmp_path)], "--data.source")
    assert [entry.image_id for entry in listing.entries] == ["a.png"]
    assert listing.refused == [("more.zip", "an archive among images is not read; give it as a source of its own")]


def test_webdataset_shards_with_equal_names_must_be_sources_of_their_own(tmp_path):
    for shard in ("0.tar", "1.tar"):
        (tmp_path / shard).write_bytes(tarred(FILES))
    with pytest.raises(InputError, match=r"2 images have the id '00000\.png'.*each archive"):
        list_sources([str(tmp_path)], "--data.source")
    listing = list_sources([str(tmp_path / "0.tar"), str(tmp_path / "1.tar")], "--data.source")
    assert [entry.image_id for entry in listing.entries] == [
        f"{shard}.tar/{name}" for shard in (0, 1) for name in FILES
    ]


def test_archives_in_a_bucket_are_read_like_those_on_a_disk(s3):
    names = list(FILES)
    halves = [{name: FILES[name] for name in half} for half in (names[:3], names[3:])]
    objects = {
        "zips/a.zip": zipped(FILES, [zipfile.ZIP_DEFLATED]),
        "shards/0.tar": tarred(halves[0] | {"00000.json": b"{}"}),
        "shards/1.tar": tarred(halves[1]),
        "cut/a.zip": zipped(FILES)[:-30],
    }
    for key, content in objects.items():
        storage.write(f"s3://faces/archives/{key}", content)
    for source in ("zips", "zips/a.zip", "shards"):
        found = read_all(list_sources([f"s3://faces/archives/{source}"], "--data.source").entries)
        assert list(found) == names
        for image, original in zip(found.values(), PORTRAITS.values(), strict=True):
            assert np.array_equal(image, original)
    with pytest.raises(InputError, match=r"s3://faces/archives/cut/a\.zip: is incomplete or damaged"):
        list_sources(["s3://faces/archives/cut"], "--data.source")
    with pytest.raises(InputError, match=r"s3://faces/archives/none\.zip.*does not exist"):
        list_sources(["s3://faces/archives/none.zip"], "--data.source")
