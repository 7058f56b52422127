"""Files of masks: what was written is read, the digest is the documented one, and what cannot be used is one line."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

from faceae.data import frozen_masks
from faceae.data.images import MAX_PIXELS
from faceae.data.sources import Entry, Listing
from faceae.errors import InputError
from faceae.evaluation import frozen


def packed(hole):
    return np.packbits(hole, bitorder="little").tobytes()


def hole_of(height, width, number=0):
    hole = np.zeros((height, width), np.bool_)
    hole[1 + number : 3 + number, 2:4] = True
    return hole


def stored(*pictures):
    """Returns a table as it is in the file."""
    rows = [
        {"image_id": name, "kind": kind, "size": size, "seed": 0, "height": len(hole), "width": hole.shape[1]}
        | {"bits": packed(hole)}
        for name, kind, size, hole in pictures
    ]
    return pa.Table.from_pylist(rows, frozen_masks.SCHEMA)


TABLE = stored(
    ("b.png", "strokes", 2, hole_of(5, 7)),
    ("a/ü.png", "box", 2, hole_of(16, 16, 3)),
    ("a/ü.png", "half", None, hole_of(16, 16, 4)),
)


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "masks.parquet")


def read(uri, table, **options):
    pq.write_table(table, uri, **options)
    return frozen_masks.read(uri)


def test_what_is_read_is_written_again_to_the_byte(uri, tmp_path):
    masks = read(uri, TABLE)
    assert [frozen_masks.unpacked(row).tolist() for row in masks.to_pylist()] == [
        hole_of(5, 7).tolist(),
        hole_of(16, 16, 3).tolist(),
        hole_of(16, 16, 4).tolist(),
    ]
    again = str(tmp_path / "again.parquet")
    frozen_masks.write(again, masks)
    assert pq.read_table(again).equals(TABLE)
    assert frozen_masks.read(again).equals(masks)


def test_the_digest_is_the_one_that_the_documentation_computes(uri):
    rows = [
        hashlib.sha256(f"{row['image_id']}\0{row['height']}\0{row['width']}\0".encode() + row["bits"]).digest()
        for row in TABLE.to_pylist()
    ]
    documented = hashlib.sha256(b"".join(sorted(rows))).hexdigest()
    for order in ([0, 1, 2], [2, 0, 1]):
        table = TABLE.take(order)
        assert frozen_masks.digest(read(uri, table, compression="none", row_group_size=1)) == documented
    assert frozen_masks.digest(read(uri, TABLE.slice(1))) != documented


def test_other_programs_may_store_the_columns_in_other_types_and_order(uri):
    types = {"image_id": pa.large_string(), "bits": pa.large_binary(), "height": pa.int64(), "size": pa.int16()}
    table = TABLE.select(TABLE.column_names[::-1])
    for name, kind in types.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    table = table.set_column(0, "bits", table["bits"]).append_column("mine", pa.array([1, 2, 3]))
    table = table.set_column(table.column_names.index("kind"), "kind", table["kind"].dictionary_encode())
    assert frozen_masks.digest(read(uri, table)) == frozen_masks.digest(read(uri, TABLE))


def changed(**values):
    """Returns a table of one mask of 5x7 pixels, with some values replaced."""
    return pa.Table.from_pylist([TABLE.to_pylist()[0] | values], frozen_masks.SCHEMA)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (changed(bits=b"\1" * 6), "the mask of b.png has 6 bytes of bits, not 5 for 7x5 pixels"),
        (changed(bits=b"\1" * 4), "has 4 bytes of bits, not 5"),
        (changed(bits=b"\0\0\0\0\xf8"), "has bits after its last pixel; they must be 0"),
        (changed(bits=bytes(5)), "hides nothing"),
        (changed(bits=packed(np.ones((5, 7), bool))), "hides the whole picture"),
        (changed(height=0), "is 7x0 pixels; up to 100 million"),
        (changed(height=-5, width=-7), "is -7x-5 pixels"),
        (changed(height=MAX_PIXELS, width=2**31 - 1), "pixels; up to 100 million are allowed"),
        (changed(image_id=None), "a mask in it has no image_id"),
        (changed(image_id="a\0"), "a mask in it has no image_id"),
        (changed(bits=None), "a mask in it has no image_id, kind, height, width or bits"),
        (changed(kind=None), "a mask in it has no image_id, kind"),
        (TABLE.slice(0, 0), "has no masks"),
        (pa.concat_tables([TABLE, TABLE.slice(0, 1)]), "has two masks of b.png of the same kind and size"),
        (TABLE.drop_columns(["bits"]), "has no column bits; name the masks.parquet of an evaluation"),
        (TABLE.set_column(6, "bits", pa.array([1, 2, 3])), "is no file of masks, or damaged"),
        (TABLE.set_column(4, "height", pa.array(["x", "y", "z"])), "is no file of masks, or damaged"),
    ],
)
def test_masks_that_cannot_be_used_are_refused_in_one_line(uri, table, words):
    pq.write_table(table, uri)
    with pytest.raises(InputError) as error:
        frozen.read(uri)
    assert str(error.value).startswith(f"--mask.file {uri}: ")
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table" * 9])
def test_a_file_of_another_kind_is_refused_in_one_line(uri, tmp_path, content):
    (tmp_path / "masks.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"^--mask\.file .*masks\.parquet: is no file of masks, or damaged \(.*\)$"):
        frozen.read(uri)
    with pytest.raises(InputError, match=r"^--mask\.file .*nothing: it does not exist"):
        frozen.read(str(tmp_path / "nothing"))


class Loaded:
    """Leaves a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_pickles_in_a_file_are_not_read(uri, tmp_path):
    """Ray registers an Arrow type that unpickles its values."""
    pickled = pa.array([pickle.dumps(Loaded(tmp_path / "loaded"))] * 3, pa.large_binary())
    objects = pa.ExtensionArray.from_storage(ArrowPythonObjectType(), pickled)
    pq.write_table(TABLE.set_column(6, "bits", objects), uri)
    with pytest.raises(InputError, match=r"the column bits is of the type .*; store plain strings and bytes"):
        frozen.read(uri)
    assert not (tmp_path / "loaded").exists()


def entries(*names):
    return [Entry(name, f"/somewhere/{name}") for name in names]


def test_all_images_of_the_file_must_be_there_and_others_are_left_out(uri, capsys):
    masks = read(uri, TABLE)
    found = frozen.only_masked(Listing(entries("a/ü.png", "c.png", "b.png"), [("bad.png", "it is")]), masks, uri)
    assert [entry.image_id for entry in found.entries] == ["a/ü.png", "b.png"]
    assert "1 image of SOURCE without a mask" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"^SOURCE: lacks 1 of the 2 images of --mask\.file .*, such as b\.png; "):
        frozen.only_masked(Listing(entries("a/ü.png"), []), masks, uri)


def test_masks_for_the_models_size_are_squares_of_that_size(uri):
    one = stored(("a", "box", 2, hole_of(16, 16)), ("b", "box", 2, hole_of(16, 16)))
    assert frozen.check_square(read(uri, one), uri) == frozen.check_square(read(uri, one), uri, 16) == 16
    with pytest.raises(InputError, match=r"has a mask of 16x16 pixels, not 32x32, the size of the model; give --own-"):
        frozen.check_square(read(uri, one), uri, 32)
    with pytest.raises(InputError, match=r"has a mask of 7x5 pixels, not 5x5; give --own-size"):
        frozen.check_square(read(uri, TABLE), uri)
    with pytest.raises(InputError, match=r"has several masks of the same image; give --own-size"):
        frozen.check_square(read(uri, TABLE.slice(1)), uri)


def test_restored_pictures_are_found_by_name_whatever_the_extension(uri):
    one = read(uri, stored(("a/1.jpg", "box", 2, hole_of(5, 7)), ("b.png", "box", 2, hole_of(5, 7))))
    found = frozen.match_restored(entries("b.jpg", "a/1.png", "z.png"), one, "there")
    assert {name: [entry.image_id for entry in made] for name, made in found.items()} == {
        "a/1.jpg": ["a/1.png"],
        "b.png": ["b.jpg"],
    }
    both = read(uri, stored(("a.jpg", "box", 2, hole_of(5, 7)), ("a.png", "box", 2, hole_of(5, 7))))
    found = frozen.match_restored(entries("a.jpg.png", "a.png.png"), both, "there")  # as reconstruct names them
    assert [found[name][0].image_id for name in ("a.jpg", "a.png")] == ["a.jpg.png", "a.png.png"]
    with pytest.raises(InputError, match=r"^MODEL there: .* it lacks 1 of 2, such as a/1\.png$"):
        frozen.match_restored(entries("b.png"), one, "there")
    with pytest.raises(InputError, match=r"^MODEL there: b\.jpg and b\.png have the same name; keep only one"):
        frozen.match_restored(entries("a/1.png", "b.jpg", "b.png"), one, "there")


def test_what_was_restored_in_several_masks_of_a_picture_is_in_folders(uri):
    several = stored(("a.jpg", "box", 2, hole_of(9, 9)), ("a.jpg", "3 boxes", 30, hole_of(9, 9, 1)))
    found = frozen.match_restored(entries("3-boxes-30/a.png", "box-2/a.png"), read(uri, several), "there")
    assert [entry.image_id for entry in found["a.jpg"]] == ["box-2/a.png", "3-boxes-30/a.png"]
