"""Masks: whatever settings are accepted can be drawn, and a mask's file is a mask or refused in one line."""

import numpy as np
import pytest
from fuzzing import contract, examples, mutated
from hypothesis import given
from hypothesis import strategies as st
from pictures import png
from PIL import Image, ImageDraw

from faceae.config import Mask, check_mask
from faceae.corruption import masks
from faceae.data.mask_library import read_masks
from faceae.errors import InputError

SIZE = 32
KINDS = ("box", "strokes", "half", "border")
sizes = st.one_of(
    st.integers(-1, 40), st.just(10**9 - 1), st.sampled_from(["1:5", "9:31", "20:9", "3:33", "7:999999999"])
)


@examples(few=100, many=1000)
@given(
    st.builds(Mask, st.lists(st.sampled_from(KINDS), min_size=1, max_size=3).map(tuple), sizes, st.integers(1, 5)),
    st.lists(st.text(max_size=8), min_size=1, max_size=5, unique=True),
    st.integers(0, 2**63 - 1),
    st.integers(-1, 2**31),
)
def test_every_accepted_mask_is_drawn_and_hides_a_part_of_the_image(mask, ids, seed, epoch):
    with contract(InputError):
        check_mask(mask, SIZE)
        drawn = masks.draw(ids, mask, seed=seed, epoch=epoch, image_size=SIZE)
        assert drawn.shape == (len(ids), SIZE, SIZE)
        assert drawn.any((1, 2)).all()
        assert (masks.unpack(masks.pack(drawn), SIZE) == drawn).all()
        alone = masks.draw(ids[-1:], mask, seed=seed, epoch=epoch, image_size=SIZE)
        assert (drawn[-1] == alone[0]).all()


def files():
    image = Image.new("L", (40, 30))
    ImageDraw.Draw(image).ellipse((5, 5, 25, 25), fill=255)
    clear = Image.new("LA", image.size)
    return [png(image), png(image.convert("1")), png(image.convert("RGB")), png(image.convert("P")), png(clear)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masks")


@examples(few=150, many=1500)
@given(mutated(files()))
def test_every_file_is_a_mask_or_refused(folder, content):
    (folder / "mask.png").write_bytes(content)
    with contract(InputError):
        read = read_masks(str(folder / "mask.png"), SIZE).packed
        assert read.shape == (1, SIZE * SIZE // 8)
        assert read.dtype == np.uint8
        assert read.any()
