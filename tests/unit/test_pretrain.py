"""The training of the network that comes with faceae: its pictures, its holes, and a few steps."""

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from faceae.models.local import LocalUnet
from pretrain.__main__ import Pretrain, main
from pretrain.holes import WINDOW, batch
from pretrain.leaves import SIDE, leaves


def test_a_drawn_picture_depends_on_its_number_only_and_has_edges():
    picture = leaves(3)
    assert picture.shape == (SIDE, SIDE, 3)
    assert (picture == leaves(3)).all()
    assert (picture != leaves(4)).mean() > 0.5
    assert 0.5 < np.abs(np.diff(picture.astype(int), axis=0)).mean() < 40


def test_windows_have_holes_and_noise_only_in_what_is_given():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 100, 100, 3)).astype(np.uint8)
    given, whole, known = batch(np.random.default_rng(1), pictures, 40)
    assert given.shape == whole.shape == (40, 3, WINDOW, WINDOW)
    assert not given[(known == 0).expand_as(given)].any()
    hidden = 1 - known.mean((1, 2, 3))
    assert (hidden > 0).all()
    assert hidden.max() <= 0.6
    change = ((given - whole) * known).abs().amax((1, 2, 3))
    assert 0.3 < (change > 0).float().mean() < 0.9
    assert 0 <= whole.min() <= whole.max() <= 1
    again = batch(np.random.default_rng(1), pictures, 40)
    assert all((one == other).all() for one, other in zip((given, whole, known), again, strict=True))


def test_a_few_steps_write_weights_that_fit(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    for name in "ab":
        main(Pretrain(steps=2, photographs=tmp_path, to=tmp_path / name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    saved = safetensors.torch.load((tmp_path / "a").read_bytes())
    assert {value.dtype for value in saved.values()} == {torch.float16}
    LocalUnet().load_state_dict(saved)
