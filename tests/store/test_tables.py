"""Parquet files: which images are listed and read, and what damage in them costs; without a Ray cluster."""

import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png, read_all, write_parquet
from PIL import Image
from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.errors import InputError

SIZE = 32


@pytest.mark.parametrize("kind", ["hugging face", "binary", "no ids", "decoded"])
def test_parquet_of_every_kind_is_read(tmp_path, kind):
    portraits = write_parquet(tmp_path / "a" / "one.parquet", kind)
    write_parquet(tmp_path / "a" / "sub" / "two.parquet", "no ids", count=3)
    listing = list_sources([str(tmp_path / "a")], "--data.source")
    found = read_all(listing.entries)
    assert len(found) == 13
    for number, image in enumerate(portraits):
        image_id = f"one.parquet/{number // 4}/{number % 4}" if kind == "no ids" else f"{number:05d}.png"
        assert (found[image_id] == image).all()


def test_decoded_pixels_of_another_size_are_resized(tmp_path):
    portraits = write_parquet(tmp_path / "one.parquet", "decoded")
    found = read_all(list_sources([str(tmp_path / "one.parquet")], "--data.source").entries, size=16)
    resized = Image.fromarray(portraits[3]).resize((16, 16), Image.Resampling.LANCZOS)
    assert (found["00003.png"] == np.asarray(resized)).all()


def test_a_null_image_in_parquet_is_rejected(tmp_path):
    pq.write_table(pa.table({"image": pa.array([None, b"x"], pa.binary())}), tmp_path / "one.parquet")
    found = read_all(list_sources([str(tmp_path)], "--data.source").entries)
    assert sorted(found.values()) == [
        "not an image (PNG, JPEG, WEBP, BMP, TIFF, GIF)",
        "the table has no bytes for this image",
    ]


def test_images_that_are_not_bytes_are_no_images(tmp_path):
    """Among others a struct of text, which pandas writes for text that only looks like bytes."""
    for kind, values in (("string", ["a"]), ("struct<bytes: string, path: string>", [{"bytes": "a", "path": "b"}])):
        pq.write_table(pa.table({"image": values}), tmp_path / "one.parquet")
        with pytest.raises(InputError, match=f"no column holds images.*found image .{kind}"):
            list_sources([str(tmp_path)], "--data.source")
    pq.write_table(pa.table([pa.array([b"x"])] * 2, ["image"] * 2), tmp_path / "one.parquet")
    with pytest.raises(InputError, match=r"no column holds images.*image .binary., image .binary."):
        list_sources([str(tmp_path)], "--data.source")


def broken_text(*values):
    """An Arrow array of strings, whatever their bytes."""
    stored = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), stored.buffers())


def test_odd_ids_cost_a_line_each_and_not_the_other_images(tmp_path):
    image = png(Image.fromarray(portrait(0, SIZE)))
    ids = broken_text(b"good", None, b"", b"null \0 byte", b"x" * 5000, b"caf\xe9")
    pq.write_table(pa.table({"image": [image] * 6, "image_id": ids}), tmp_path / "one.parquet")
    listing = list_sources([str(tmp_path)], "--data.source")
    assert [entry.image_id for entry in listing.entries] == ["good", "one.parquet/0/1", "one.parquet/0/2"]
    assert listing.refused == [
        ("null \0 byte", "there is a NUL in its name"),
        ("x" * 100 + "...", "its name has more than 4096 characters"),
        (r"caf\xe9", "its name is not UTF-8; rename it"),
    ]
    assert not any(isinstance(found, str) for found in read_all(listing.entries).values())


@pytest.mark.parametrize("kind", ["hugging face", "binary", "decoded"])
def test_a_damaged_page_of_parquet_costs_its_row_group_alone(tmp_path, kind):
    write_parquet(tmp_path / "one.parquet", kind, count=6, row_group=2)
    metadata = pq.read_metadata(tmp_path / "one.parquet").row_group(1)
    columns = [metadata.column(number) for number in range(metadata.num_columns)]
    (column,) = (c for c in columns if c.path_in_schema in ("image", "image.bytes", "pixels"))
    content = bytearray((tmp_path / "one.parquet").read_bytes())
    listing = list_sources([str(tmp_path)], "--data.source")
    content[column.data_page_offset : column.data_page_offset + 20] = b"\xff" * 20
    (tmp_path / "one.parquet").write_bytes(content)
    found = read_all(listing.entries)
    bad = {image_id: reason for image_id, reason in found.items() if isinstance(reason, str)}
    assert sorted(bad) == ["00002.png", "00003.png"]
    assert all(reason.startswith("the table is damaged in its row group 1: ") for reason in bad.values())


def test_a_table_that_disappears_or_changes_costs_its_images(tmp_path):
    write_parquet(tmp_path / "one.parquet", "binary", count=6, row_group=2)
    entries = list_sources([str(tmp_path)], "--data.source").entries
    pq.write_table(pa.table({"age": [1]}), tmp_path / "one.parquet")
    assert {reason[:34] for reason in read_all(entries).values()} == {"the table is damaged in its row gr"}
    for content in (b"PAR1", None):
        (tmp_path / "one.parquet").write_bytes(content) if content else (tmp_path / "one.parquet").unlink()
        assert {reason[:46] for reason in read_all(entries).values()} == {
            "the table has changed since it was listed: Par"
            if content
            else "the table has changed since it was listed: [Er"
        }


def test_a_footer_that_claims_more_rows_than_bytes_is_damaged(tmp_path):
    pq.write_table(pa.table({"image": pa.nulls(100_000, pa.binary())}), tmp_path / "one.parquet")
    with pytest.raises(InputError, match=r"one\.parquet: is damaged .it claims to have 100000 rows"):
        list_sources([str(tmp_path)], "--data.source")


def test_pixels_of_no_or_too_small_an_image_are_rejected(tmp_path):
    pixels = [b"", b"abc", b"abcd", bytes(20 * 20 * 3), bytes(SIZE * SIZE * 3)]
    pq.write_table(pa.table({"pixels": pixels, "image_id": list("abcde")}), tmp_path / "one.parquet")
    found = read_all(list_sources([str(tmp_path)], "--data.source").entries)
    assert [found[name] for name in "abc"] == [
        "0 bytes of pixels do not make a square RGB image",
        "1x1 pixels is too small: less than half of 32x32",
        "4 bytes of pixels do not make a square RGB image",
    ]
    assert not found["d"].any()
    assert not found["e"].any()


def test_the_error_for_a_parquet_file_without_images_lists_its_columns(tmp_path):
    pq.write_table(pa.table({"name": ["a"], "age": [3]}), tmp_path / "people.parquet")
    with pytest.raises(
        InputError, match=r"people\.parquet: no column holds images.*found name \(string\), age \(int64\)"
    ):
        list_sources([str(tmp_path)], "--data.source")


class Opened:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.open, (str(self.path), os.O_CREAT)


@pytest.mark.parametrize(
    ("place", "words"), [("image_id", "store plain strings and bytes instead"), ("bytes", "no column holds images")]
)
def test_pickled_objects_in_parquet_are_refused_unread(tmp_path, place, words):
    """Ray registers an Arrow type that unpickles its values."""
    marker = tmp_path / "loaded"
    pickled = pa.array([pickle.dumps(Opened(marker))], pa.large_binary())
    objects = pa.ExtensionArray.from_storage(ArrowPythonObjectType(), pickled)
    if place == "image_id":
        table = pa.table({"image": pa.array([b"x"]), "image_id": objects})
    else:
        table = pa.table({"image": pa.StructArray.from_arrays([objects, pa.array(["a.png"])], ["bytes", "path"])})
    pq.write_table(table, tmp_path / "one.parquet")
    with pytest.raises(InputError, match=words):
        list_sources([str(tmp_path / "one.parquet")], "--data.source")
    assert not marker.exists()
