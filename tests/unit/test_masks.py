"""Masks: what each kind hides, and that they depend only on the seed, the epoch and the image's id."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageDraw

from faceae.config import Mask
from faceae.config.holes import parse
from faceae.corruption import masks

ids = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8, unique=True)
seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(-1, 10_000)


@st.composite
def sizes(draw):
    image_size = draw(st.integers(1, 6)) * 16
    return image_size, draw(st.integers(1, image_size))


@given(ids, seeds, epochs, sizes())
def test_a_mask_is_one_full_box_inside_the_image(image_ids, seed, epoch, size):
    image_size, box_size = size
    drawn = masks.draw(image_ids, Mask(size=box_size), seed=seed, epoch=epoch, image_size=image_size)
    assert drawn.shape == (len(image_ids), image_size, image_size)
    for mask in drawn:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert len(rows) == len(columns) == box_size
        assert rows[-1] - rows[0] == columns[-1] - columns[0] == box_size - 1
        assert mask.sum() == box_size**2


@given(ids, seeds, epochs, st.randoms())
def test_masks_do_not_depend_on_the_batch_or_its_order(image_ids, seed, epoch, random):
    together = masks.draw(image_ids, Mask(size=9), seed=seed, epoch=epoch, image_size=32)
    shuffled = random.sample(image_ids, len(image_ids))
    for image_id in shuffled:
        alone = masks.draw([image_id], Mask(size=9), seed=seed, epoch=epoch, image_size=32)
        assert (alone[0] == together[image_ids.index(image_id)]).all()


def test_masks_change_with_the_epoch_the_seed_and_the_image():
    def corner(image_id="a", seed=0, epoch=1):
        return tuple(masks.boxes([image_id], Mask(size=28), seed=seed, epoch=epoch, image_size=128)[0][0])

    by_epoch = {corner(epoch=epoch) for epoch in range(200)}
    by_seed = {corner(seed=seed) for seed in range(200)}
    by_image = {corner(image_id=str(i)) for i in range(200)}
    assert min(len(by_epoch), len(by_seed), len(by_image)) > 190


def test_corners_are_uniform_over_all_positions():
    corners = masks.boxes([str(i) for i in range(20_000)], Mask(size=13), seed=0, epoch=0, image_size=16)[0]
    counts = np.zeros((4, 4))
    np.add.at(counts, tuple(corners.T), 1)
    # For each of the 16 positions 1250 are expected, with a standard deviation of 34.
    assert abs(counts - 1250).max() < 5 * 34


def test_the_masks_of_a_seed_stay_the_same():
    """A change here changes every run and every validation metric, so that older results are no longer comparable."""
    corners = masks.boxes(["00000/00000.png", "b"], Mask(size=28), seed=3, epoch=7, image_size=128)[0]
    assert corners.tolist() == [[67, 30], [65, 73]]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_packing_loses_nothing(count, sixteenths, seed):
    drawn = np.random.default_rng(seed).random((count, 16 * sixteenths, 16 * sixteenths)) < 0.3
    packed = masks.pack(drawn)
    assert packed.nbytes * 8 == drawn.size
    assert (masks.unpack(packed, 16 * sixteenths) == drawn).all()


def drawn(settings, count=200, epoch=1, **options):
    names = [f"{number:05}.png" for number in range(count)]
    return masks.draw(names, settings, seed=0, epoch=epoch, image_size=64, **options)


def test_boxes_may_be_several_and_of_any_size():
    ones, twos = (drawn(Mask(size="4:20", count=count)).sum((1, 2)) for count in (1, 2))
    assert {round(area**0.5) for area in ones.tolist()} == set(range(4, 21))
    assert (twos >= ones).all()  # the first box is the same
    assert (twos > ones).mean() > 0.8


def test_strokes_hide_some_pixels_but_never_all():
    share = drawn(Mask(kind=("strokes",), size=14)).mean((1, 2))
    assert 0 < share.min() < share.max() < 0.7
    assert len(np.unique(share)) > 150


def test_all_four_halves_are_drawn():
    found = {mask.tobytes() for mask in drawn(Mask(kind=("half",)))}
    assert len(found) == 4
    assert all(np.frombuffer(mask, bool).mean() == 0.5 for mask in found)


def test_a_border_leaves_the_middle_visible():
    mask = drawn(Mask(kind=("border",), size=10), count=1)[0]
    assert not mask[10:54, 10:54].any()
    assert mask.sum() == 64 * 64 - 44 * 44


def test_all_masks_of_the_user_are_used():
    library = np.zeros((5, 64, 64), bool)
    for number in range(5):
        library[number, number] = True
    shown = drawn(Mask(kind=("image",), images="folder"), library=masks.pack(library))
    assert set(shown.argmax(1)[:, 0].tolist()) == set(range(5))
    assert (shown.sum((1, 2)) == 64).all()


def test_with_several_kinds_each_image_gets_the_mask_of_one_kind():
    settings = Mask(kind=("box", "half", "border", "strokes"), size=12)
    names = [f"{number:05}.png" for number in range(200)]
    kinds = masks.kinds(names, settings, seed=0, epoch=1)
    assert set(kinds) == set(settings.kind)
    together = drawn(settings)
    for name, kind, mask in zip(names[:40], kinds, together, strict=False):
        alone = masks.draw([name], Mask(kind=(kind,), size=12), seed=0, epoch=1, image_size=64)[0]
        assert (alone == mask).all()
    assert (drawn(settings, epoch=2) != together).any((1, 2)).mean() > 0.8  # all borders are equal


def test_a_box_at_own_size_is_anywhere_in_pictures_of_any_shape():
    drawn = [masks.draw_at_own_size(f"{i}.png", parse("box:9"), (20, 300)) for i in range(300)]
    assert all(mask.shape == (20, 300) and mask.sum() == 81 for mask in drawn)
    places = np.array([np.argwhere(mask)[0] for mask in drawn])
    assert places.min(0).tolist() == [0, 0]
    assert places.max(0)[0] == 20 - 9
    assert places.max(0)[1] > 280
    three = [masks.draw_at_own_size(f"{i}.png", parse("box:9:3"), (200, 200)).sum() for i in range(20)]
    assert max(three) == 3 * 81


def test_strokes_at_own_size_have_one_width_and_those_of_training_a_quarter_to_half_of_it(monkeypatch):
    widths = []
    line = ImageDraw.ImageDraw.line

    def record(pen, *arguments, width, **options):
        widths.append(width)
        line(pen, *arguments, width=width, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "line", record)
    for number in range(20):
        mask = masks.draw_at_own_size(f"{number}.png", parse("strokes:24"), (300, 500))
        assert 0.005 < mask.mean() < 0.6
    assert set(widths) == {24}
    widths.clear()
    drawn(Mask(kind=("strokes",), size=24))
    assert set(widths) == set(range(6, 13))


def test_holes_at_own_size_depend_on_the_picture_the_hole_and_the_size_only():
    def draw(name, hole, shape=(200, 200)):
        return masks.draw_at_own_size(name, parse(hole), shape).tobytes()

    assert draw("a", "strokes:4") == draw("a", "strokes:4")
    assert len({draw(name, hole) for name in "ab" for hole in ("box:9", "box:10", "strokes:9", "strokes:4")}) == 8


def test_the_kind_says_whether_a_mask_has_a_size():
    settings = Mask(kind=("box", "half", "strokes"), size="4:20")
    names = [f"{number:05}.png" for number in range(100)]
    kinds = masks.kinds(names, settings, seed=0, epoch=1)
    sizes = masks.sizes(names, settings, seed=0, epoch=1)
    areas = masks.draw(names, settings, seed=0, epoch=1, image_size=64).sum((1, 2)).tolist()
    assert all(size is None for kind, size in zip(kinds, sizes, strict=True) if kind == "half")
    assert all(size**2 == area for kind, size, area in zip(kinds, sizes, areas, strict=True) if kind == "box")
    assert {size for kind, size in zip(kinds, sizes, strict=True) if kind == "strokes"} <= set(range(4, 21))
