"""The synthetic portraits."""

import numpy as np

from faceae.data.synthetic import portrait


def test_a_portrait_is_the_same_each_time_and_differs_from_others():
    first = portrait(7, 64)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert (first == portrait(7, 64)).all()
    others = [portrait(number, 64).astype(int) for number in range(8, 16)]
    assert min(abs(first - other).mean() for other in others) > 5


def test_faces_are_where_ffhq_has_them():
    """The whites and pupils of the eyes are at 48 % of the height: over many portraits, the rows there vary most."""
    faces = np.stack([portrait(number, 64) for number in range(60)]).astype(float).mean(-1)
    face = faces[:, :, 18:46]
    contrast = face.std(2).mean(0)
    assert abs(np.argmax(contrast[20:44]) + 20 - 0.48 * 64) < 5
