"""What the driver lists in a source, how it splits the images, and what a read task returns; without a Ray cluster."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png, read_all, tarred, zipped
from PIL import Image

from faceae.config import Data
from faceae.data.reader import FaceSource
from faceae.data.sources import SYNTHETIC, Entry, digest, list_sources
from faceae.data.split import Split
from faceae.data.synthetic import portrait
from faceae.errors import InputError

SIZE = 32


def test_all_images_in_a_folder_tree_are_read(faces):
    listing = list_sources([str(faces)], "--data.source")
    assert len(listing.entries) == 96
    found = read_all(listing.entries)
    for number in range(96):
        assert (found[f"{number % 2}/face{number}.png"] == portrait(number, SIZE)).all()


def test_a_source_whose_images_are_all_refused_says_why(tmp_path):
    pq.write_table(pa.table({"image": [b"x"], "image_id": ["a\0b"]}), tmp_path / "one.parquet")
    with pytest.raises(InputError, match="none of its 1 images can be used; a b: there is a NUL in its name"):
        list_sources([str(tmp_path)], "--data.source")


def test_a_file_that_disappears_is_rejected(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(Image.fromarray(portrait(0, SIZE))))
    listing = list_sources([str(tmp_path)], "--data.source")
    (tmp_path / "a.png").unlink()
    assert read_all(listing.entries)["a.png"] == "the file has disappeared since it was listed"


def test_apple_doubles_are_refused_and_other_files_ignored(tmp_path):
    for name in ("a.png", "._a.png", "notes.txt"):
        (tmp_path / name).write_bytes(png(Image.fromarray(portrait(0, SIZE))))
    listing = list_sources([str(tmp_path)], "--data.source")
    assert [entry.image_id for entry in listing.entries] == ["a.png"]
    ((refused, reason),) = listing.refused
    assert refused == "._a.png"
    assert "AppleDouble" in reason


def test_the_digest_of_a_source_tells_other_images_from_the_same_ones_elsewhere(faces, tmp_path):
    def of(folder):
        return digest(list_sources([str(folder)], "--data.source").entries)

    copied = shutil.copytree(faces, tmp_path / "elsewhere")
    assert of(copied) == of(faces)
    (copied / "0" / "face0.png").rename(copied / "0" / "other.png")
    assert of(copied) != of(faces)
    for name, seed in (("one.zip", 1), ("two.zip", 2)):
        (tmp_path / name).write_bytes(zipped({"a.png": png(Image.fromarray(portrait(seed, SIZE)))}))
    assert of(tmp_path / "one.zip") != of(tmp_path / "two.zip")
    assert digest([Entry("a.png", "x")]) != digest([Entry("a.png", "x")], {"x": (1, 2)})


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_file_name_that_is_not_utf_8_is_refused(tmp_path, kind):
    content = png(Image.fromarray(portrait(0, SIZE)))
    files = {"a.png": content, os.fsdecode(b"caf\xe9.png"): content}
    if kind == "tar":
        (tmp_path / "faces.tar").write_bytes(tarred(files, tarfile.GNU_FORMAT))
    else:
        for name, encoded in files.items():
            Path(tmp_path, name).write_bytes(encoded)
    listing = list_sources([str(tmp_path)], "--data.source")
    assert [entry.image_id for entry in listing.entries] == ["a.png"]
    assert listing.refused == [(r"caf\xe9.png", "its name is not UTF-8; rename it")]
    assert len(read_all(listing.entries)) == 1


def test_several_sources_keep_their_images_apart(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"")
    listing = list_sources([str(tmp_path / "x"), str(tmp_path / "y")], "--data.source")
    assert [entry.image_id for entry in listing.entries] == ["x/a.png", "y/a.png"]
    with pytest.raises(InputError, match=r"2 images have the id .x/a\.png."):
        list_sources([str(tmp_path / "x")] * 2, "--data.source")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing", "does not exist"),
        ("empty", "there are no images"),
        ("file.txt", "neither a folder"),
        ("synthetic:many", "how many"),
        ("synthetic:99999999999", "how many"),
        ("nosuch://x/y", "nosuch"),
    ],
)
def test_an_unusable_source_is_an_error_with_its_reason(tmp_path, source, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    uri = source if ":" in source else str(tmp_path / source)
    with pytest.raises(InputError, match=words) as error:
        list_sources([uri], "--data.source")
    assert str(error.value).startswith("--data.source")


def ffhq(tmp_path, numbers):
    for number in numbers:
        path = tmp_path / f"{number // 1000 * 1000:05d}" / f"{number:05d}.png"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return str(tmp_path)


def test_ffhq_is_split_as_its_authors_do(tmp_path):
    split = Split(Data(source=(ffhq(tmp_path, [0, 7, 59_999, 60_000, 69_999]),)))
    assert sorted(entry.image_id for entry in split.val) == ["60000/60000.png", "69000/69999.png"]
    assert len(split.train) == 3


def test_a_part_of_ffhq_without_validation_images_is_split_by_hash(tmp_path):
    split = Split(Data(source=(ffhq(tmp_path, range(100)),)))
    assert len(split.train) + len(split.val) == 100
    assert 2 <= len(split.val) <= 20


def test_the_split_of_an_image_does_not_depend_on_the_others():
    few, many = Split(Data(source=("synthetic:500",))), Split(Data(source=("synthetic:5000",)))
    assert {entry.image_id for entry in few.val} < {entry.image_id for entry in many.val}
    assert abs(len(many.val) - 500) < 110  # 5 standard deviations


def test_a_limit_takes_the_same_random_sample_each_time():
    def ids(limit):
        split = Split(Data(source=("synthetic:1000",), limit=limit))
        return {entry.image_id for entry in split.train + split.val}

    assert len(ids(100)) == 100
    assert ids(100) < ids(300)
    assert min(ids(100)) > "synthetic-000000" or max(ids(100)) > "synthetic-000900"


def test_validation_images_may_come_from_elsewhere(faces):
    split = Split(Data(source=("synthetic:20",), val_source=(str(faces),), limit=10))
    assert (len(split.train), len(split.val)) == (10, 96)


def test_synthetic_and_stored_images_mix_in_one_unit(faces):
    listing = list_sources(["synthetic:20", str(faces)], "--data.source")
    found = read_all(listing.entries)
    kinds = [{entry.uri == SYNTHETIC for entry in unit} for unit in FaceSource(listing.entries, SIZE).units]
    assert {True, False} in kinds
    assert (found["synthetic_20/synthetic-000007"] == portrait(7, SIZE)).all()
    assert (found[f"{faces.name}/1/face41.png"] == portrait(41, SIZE)).all()


def test_one_image_is_too_few_to_split(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="no image is left"):
        Split(Data(source=(str(tmp_path),)))


def test_real_ffhq_is_read_in_its_own_layout(shared):
    listing = list_sources([str(shared / "ffhq" / "thumbnails128x128")], "--data.source")
    assert {entry.image_id for entry in listing.entries} == {f"00000/{i:05d}.png" for i in range(100)}
    found = read_all(listing.entries, 128)
    original = Image.open(io.BytesIO((shared / "ffhq/thumbnails128x128/00000/00042.png").read_bytes()))
    assert (found["00000/00042.png"] == np.asarray(original)).all()


def test_a_bucket_is_listed_and_read_like_a_folder(s3, faces):
    from faceae import storage

    for path in faces.rglob("*.png"):
        storage.write(f"s3://faces/tree/{path.relative_to(faces)}", path.read_bytes())
    remote = list_sources(["s3://faces/tree"], "--data.source")
    local = list_sources([str(faces)], "--data.source")
    assert [entry.image_id for entry in remote.entries] == [entry.image_id for entry in local.entries]
    there, here = read_all(remote.entries), read_all(local.entries)
    assert all((there[image_id] == here[image_id]).all() for image_id in here)
