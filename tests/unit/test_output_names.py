"""The names of restored pictures: none is overwritten, and none leaves the folder."""

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faceae.data.output_names import output_names

TOO_LONG = "its name is too long: 900 bytes are allowed, with .png, and 255 between slashes"

parts = st.sampled_from(
    ["a", "1", "1.png", "1.jpg", "1.png.png", ".png", ".", "..", "", "summary.json", "\0", "x" * 252]
)
image_ids = st.lists(st.lists(parts, min_size=1, max_size=4).map("/".join) | st.text(max_size=5), unique=True)


def test_the_extension_is_replaced_unless_names_would_be_equal():
    names, rejected = output_names(["a.png", "a.jpg", "b.c/d.tiff", "e.f", "c/./g.webp"])
    assert names == {
        "a.png": "a.png.png",
        "a.jpg": "a.jpg.png",
        "b.c/d.tiff": "b.c/d.png",
        "e.f": "e.f.png",
        "c/./g.webp": "c/g.png",
    }
    assert rejected == []


def test_three_pictures_whose_names_build_on_each_other_give_three_files():
    names, _ = output_names(["1.png", "1.jpg", "1.png.png"])
    assert sorted(names.values()) == ["1.jpg.png", "1.png.png", "1.png.png.png"]


@pytest.mark.parametrize(
    ("image_id", "reason"),
    [
        ("/g.png", "its name leads out of the folder"),
        ("a/../../g.png", "its name leads out of the folder"),
        ("a\0.png", "its name cannot be that of a file"),
        (".", "its name cannot be that of a file"),
        ("./a//b.png", "it has the same path as a/b.png"),
        ("a/b.png/c.png", "a/b.png is a file, so that there cannot be a folder of that name"),
        ("summary.json/c.png", "summary.json is a file, so that there cannot be a folder of that name"),
        ("é" * 126 + ".jpg", TOO_LONG),
        ("a/" * 450 + "a.jpg", TOO_LONG),
    ],
)
def test_a_picture_without_a_possible_file_is_rejected_with_the_reason(image_id, reason):
    names, rejected = output_names(["a/b.png", image_id], ["summary.json"])
    assert names == {"a/b.png": "a/b.png"}
    assert rejected == [(image_id, reason)]


def test_in_its_own_format_a_picture_keeps_its_name():
    names, rejected = output_names(["a.png", "a.JPG", "b.gif", "b.gif.png", "c.gif", "d"], own=True)
    assert names == {
        "a.png": "a.png",
        "a.JPG": "a.JPG",
        "b.gif": "b.png",
        "b.gif.png": "b.gif.png.png",
        "c.gif": "c.png",
        "d": "d.png",
    }
    assert rejected == []


@settings(deadline=None)
@given(image_ids, st.booleans())
@example(["1.png", "1.jpg", "1.png.png"], False)
@example(["a/1.png", "a/./1.png", "a//1.jpg"], False)
@example(["1.gif", "1.png", "1.gif.png"], True)
def test_every_picture_has_a_file_of_its_own_or_a_reason(image_ids, own):
    names, rejected = output_names(image_ids, ["summary.json"], own=own)
    assert sorted([*names, *(image_id for image_id, _ in rejected)]) == sorted(image_ids)
    files = [os.path.normpath(name) for name in names.values()]
    assert files == list(names.values())
    everything = {*files, "summary.json"}
    assert len(everything) == len(files) + 1
    for name in files:
        assert name.endswith((".png", ".jpg") if own else ".png")
        assert not name.startswith(("/", "../"))
        assert everything.isdisjoint(map(str, PurePosixPath(name).parents))
        assert all(0 < len(part.encode()) <= 255 for part in name.split("/"))
