"""Pictures to measure: read at their own size or the model's, with what was restored of them; without Ray."""

import math

import numpy as np
import pytest
from networks import tiny
from pictures import png, tarred
from PIL import Image

from faceae.config.holes import parse
from faceae.data import frozen_masks, pictures
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.evaluation.baselines import Comparison
from faceae.evaluation.holes import OwnSizeHoles
from faceae.evaluation.pictures import fill_holes, restored, unpacked
from faceae.models import Restorer

SIZES = {"a.png": (40, 60), "b/c.png": (64, 64), "d.png": (90, 30)}
HOLES = OwnSizeHoles(tuple(map(parse, ("box:8", "strokes:3", "box:20"))))

COMPARISON = Comparison(None, frozenset({"a.png", "d.png"}))


def image(name, number=0):
    return Image.fromarray(portrait(number, 64)).resize(SIZES[name])


@pytest.fixture
def source(tmp_path):
    (tmp_path / "one.tar").write_bytes(tarred({name: png(image(name)) for name in SIZES} | {"bad.png": b"x"}))
    return list_sources([str(tmp_path / "one.tar")], "SOURCE").entries


def made(tmp_path, **files):
    (tmp_path / "made.tar").write_bytes(tarred(files))
    return list_sources([str(tmp_path / "made.tar")], "MODEL").entries


def read(entries, restored=None, side=32, own_size=True):
    lists = restored or [[]] * len(entries)
    return [row for block in pictures.read_pictures(entries, lists, side, own_size) for row in block.to_pylist()]


def test_pictures_keep_their_size_and_bad_ones_cost_a_line(source, monkeypatch):
    monkeypatch.setattr(pictures, "BLOCK_BYTES", 1)  # a block for each picture
    rows = {row["image_id"]: row for row in read(source)}
    assert "not an image" in rows.pop("bad.png")["reason"]
    for name, row in rows.items():
        assert (unpacked(row) == np.asarray(image(name))).all()


def test_each_picture_gets_what_was_restored_of_it(source, tmp_path):
    names = [entry.image_id for entry in source]
    files = {f"{number}.png": png(image(name, number)) for number, name in enumerate(SIZES)}
    found = {entry.image_id: entry for entry in made(tmp_path, **files)}
    lists = [[] if name == "bad.png" else [found[f"{[*SIZES].index(name)}.png"]] * 2 for name in names]
    for row in read(source, lists):
        if row["reason"] is None:
            number = [*SIZES].index(row["image_id"])
            expected = np.asarray(image(row["image_id"], number)).tobytes()
            assert row["restored"] == [expected] * 2
    (other,) = made(tmp_path, **{"0.png": png(image("a.png"))})
    reasons = {row["image_id"]: row["reason"] for row in read(source, [[other]] * 4)}
    assert reasons["a.png"] is None
    assert reasons["d.png"] == "what was restored of it is 40x60 pixels, not 90x30"
    squares = [row for row in read(source, [[other]] * 4, own_size=False) if row["reason"] is None]
    assert [(row["height"], len(row["restored"][0])) for row in squares] == [(32, 32 * 32 * 3)] * 3


def test_every_picture_is_restored_in_each_hole_that_fits(source, monkeypatch):
    restorer = Restorer(*tiny("unet")).eval()
    (block,) = pictures.read_pictures(source, [[]] * 4, 32, True)
    filled = fill_holes(block, HOLES, COMPARISON)
    rows = filled.to_pylist()
    measured = {row["image_id"] for row in rows for mask in row["holes"] or () if not math.isnan(mask["mean_mse"])}
    assert measured == COMPARISON.image_ids
    for at_once in (1, 10**9):  # bytes: the result does not depend on how many are restored at a time
        monkeypatch.setattr("faceae.evaluation.pictures.BLOCK_BYTES", at_once)
        done = [(mask["image_id"], mask["kind"], mask["size"]) for _, mask, _, _ in restored(restorer, rows)]
        assert sorted(done) == sorted(
            (name, kind, size)
            for name in SIZES
            for kind, size in (("box", 8), ("strokes", 3), ("box", 20))
            if not (size == 20 and name == "d.png")
        )
        for pixels, mask, hole, output in restored(restorer, rows):
            assert (hole == frozen_masks.unpacked(mask)).all()
            assert (output == restorer.restore([pixels], [hole])[0]).all()


class Other:
    """Masks of a file that was written for other pictures."""

    kinds = ("box",)

    def __init__(self, height, width):
        self.shape = height, width

    def rows(self, places):
        bits = np.packbits(np.eye(*self.shape, dtype=bool), bitorder="little").tobytes()
        return [[frozen_masks.row(name, "box", 8, 0, *self.shape, bits)] for name, _, _ in places]


@pytest.mark.parametrize(
    ("holes", "reason"),
    [
        (Other(61, 40), "it is 40x60 pixels, its mask in the file 40x61"),
        (OwnSizeHoles((parse("box:300"),)), "40x60 pixels are too few for any of the holes"),
    ],
)
def test_a_picture_whose_holes_do_not_fit_it_is_not_measured(source, holes, reason):
    (block,) = pictures.read_pictures(source, [[]] * 4, 32, True)
    found = {row["image_id"]: row for row in fill_holes(block, holes, COMPARISON).to_pylist()}
    assert found["a.png"]["reason"] == reason
    assert found["a.png"]["holes"] is None
    assert not list(restored(None, [found["a.png"]]))
