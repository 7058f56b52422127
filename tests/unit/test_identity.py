"""Whether the person stays the person; what needs dlib is tested by `make identity`."""

import importlib.util
import math
import re

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from faceae.errors import InputError
from faceae.evaluation import aggregate, identity
from faceae.reporting import evaluation as report

FACES = ("Aaron_Peirsol_0001.jpg", "Aaron_Peirsol_0002.jpg", "Aaron_Eckhart_0001.jpg")


@pytest.mark.parametrize(
    ("distances", "same_share", "words"),
    [
        (
            [0.1, 0.2],
            1.0,
            "in 100.0% of 2 restored faces: dlib's descriptors are less than 0.6 apart, on average 0.15.",
        ),
        (
            [0.6, math.nan, 0.5],
            0.5,
            "in 50.0% of 2 .* on average 0.55. No face was found in 1 of the originals.",
        ),
        ([math.nan], None, "No face was found in any of 1 originals"),
    ],
)
def test_a_summary_counts_the_faces_that_were_found(distances, same_share, words):
    measured = aggregate.identity(pa.table({identity.DISTANCE: pa.chunked_array([distances], pa.float32())}))
    assert (measured["of"], measured["same_share"]) == (len(distances), same_share)
    assert measured["faces"] == sum(not math.isnan(distance) for distance in distances)
    assert re.search(words, report.identity({"identity": measured}))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^--identity: needs dlib and its models; pip install 'faceae\[identity\]'"):
        identity.check_installed()


@pytest.fixture(scope="module")
def measure():
    pytest.importorskip("dlib", reason="not installed; see make identity")
    return identity.Identity().distance


def test_the_same_picture_the_same_person_and_another_one(measure, shared):
    one, again, other = (np.asarray(Image.open(shared / "lfw128" / name).convert("RGB")) for name in FACES)
    assert measure(one, one) == 0
    hidden = one.copy()
    hidden[50:78, 50:78] = one.mean((0, 1))
    assert 0.2 < measure(one, hidden) < identity.SAME < measure(one, other)
    assert measure(one, again) < measure(one, other)


def test_the_size_of_a_picture_matters_little(measure, shared):
    picture = Image.open(shared / "lfw128" / FACES[0]).convert("RGB")
    given = picture.copy()
    given.paste((128, 128, 128), (50, 50, 78, 78))
    small, large = (
        measure(*(np.asarray(each.resize((side, side), Image.Resampling.BICUBIC)) for each in (picture, given)))
        for side in (128, 512)
    )
    assert small == pytest.approx(large, abs=0.1)


def test_without_a_face_there_is_no_distance(measure):
    assert math.isnan(measure(*np.zeros((2, 128, 128, 3), np.uint8)))
