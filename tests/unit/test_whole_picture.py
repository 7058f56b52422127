"""Tasks that ask for every pixel, on pictures of any size: from Python and by `faceae restore`."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from faceae import config, models
from faceae.config import Data, Model, Settings, Upscale
from faceae.config.restore import RestoreSettings
from faceae.data.synthetic import portrait
from faceae.drivers.restore import restore
from faceae.errors import InputError
from faceae.tasks.colorize import WEIGHTS

SIZE = 32
SHAPES = [(32, 32), (32, 70), (90, 41), (20, 50), (129, 129)]


def settings(task, name="unet"):
    upscale = Upscale(2) if task == "upscale" else Upscale()
    model = Model(name=name, width=8, levels=2, latent_dim=8)
    return config.validate(Settings(task=task, data=Data(image_size=SIZE), model=model, upscale=upscale))


def built(task, name="unet"):
    torch.manual_seed(0)
    chosen = settings(task, name)
    return models.Restorer(models.build(chosen), chosen).eval()


def idle(model):
    """The same model with a network that adds nothing."""
    nn.init.zeros_(model.network.leave[1].weight)
    nn.init.zeros_(model.network.leave[1].bias)
    return model


def picture(shape):
    return np.asarray(Image.fromarray(portrait(3, 256)).resize(shape[::-1]))


def test_a_picture_of_the_size_of_training_is_what_a_batch_gives():
    model, pixels = built("denoise"), portrait(1, SIZE)
    batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        expected = (255 * model(batch, torch.ones(1, 1, SIZE, SIZE))[0]).round().byte().permute(1, 2, 0).numpy()
    assert (model(pixels) == expected).all()
    assert (expected != pixels).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_network_that_adds_nothing_changes_nothing_whatever_the_size(shape):
    pixels = picture(shape)
    assert (idle(built("denoise"))(pixels) == pixels).all()
    grey = idle(built("colorize"))(pixels)
    assert np.abs(grey - (pixels @ np.array(WEIGHTS))[..., None]).max() < 1
    large = idle(built("upscale"))(pixels)
    assert large.shape == (2 * shape[0], 2 * shape[1], 3)
    small = np.asarray(Image.fromarray(large).resize(shape[::-1], Image.Resampling.BOX))
    assert np.abs(small - pixels.astype(int)).mean() < 6


@pytest.mark.parametrize("shape", SHAPES)
def test_colours_do_not_change_the_luminance(shape):
    pixels = picture(shape)
    model = built("colorize")
    for weights in model.parameters():
        weights.data.mul_(3)
    made = model(pixels)
    assert made.shape == pixels.shape
    assert (made.std(2) > 3).any()
    assert np.abs((made.astype(float) - pixels) @ np.array(WEIGHTS)).max() <= 1.01  # two roundings


def test_squares_are_told_where_they_lie_and_are_blended_without_steps():
    """A network that draws how far to the right a pixel is: a slope over the whole picture, whatever the squares."""

    class Slope(models.FrameUnet):
        def _unet(self, pixels, face=0.0):
            return (pixels[:, 3:4] + 1).expand(-1, 3, -1, -1) / 4

    chosen = settings("denoise")
    model = models.Restorer(Slope(8, 2, 1, average_mirrored=False), chosen).eval()
    row = model(np.zeros((SIZE, 5 * SIZE, 3), np.uint8))[7, :, 0].astype(int)
    centre = slice(2 * SIZE, 3 * SIZE)
    assert row[centre][0] == pytest.approx(255 * (1 / SIZE) / 4, abs=1)
    assert row[centre][-1] == pytest.approx(255 * (2 - 1 / SIZE) / 4, abs=1)
    right = row[2 * SIZE :]
    assert set(np.diff(right[right < 252])) <= {3, 4, 5}  # no step where squares meet
    assert right[-1] == 255


def test_files_arrays_and_images_are_taken_and_metadata_are_kept(tmp_path):
    model, pixels = built("denoise"), picture((40, 50))
    made = model(pixels)
    image = Image.fromarray(pixels)
    image.info["dpi"] = (300, 300)
    image.save(tmp_path / "a.png", dpi=(300, 300))
    for given in (image, str(tmp_path / "a.png"), tmp_path / "a.png"):
        found = model(given)
        assert (np.asarray(found) == made).all()
        assert found.info["dpi"][0] == pytest.approx(300, abs=0.1)


@pytest.mark.parametrize(("name", "given", "message"), [
    ("unet", {"mask": np.ones((32, 32), bool)}, "trained for --task denoise and fills no holes; use it without masks"),
    ("unet", {"grow": 3}, "fills no holes"),
    ("article", {}, "--task denoise with --model.name article redraws faces of 32x32 only"),
])  # fmt: skip
def test_what_a_model_cannot_do_is_refused(name, given, message):
    with pytest.raises(InputError, match=message):
        built("denoise", name)(portrait(0, SIZE), **given)


def test_a_grey_file_becomes_a_coloured_one(tmp_path):
    model = built("colorize")
    for weights in model.parameters():
        weights.data.mul_(3)
    models.save(str(tmp_path / "model"), model.network, model.settings)
    profile = b"\0" * 16 + b"GRAY" + b"\0" * 120
    Image.fromarray(picture((40, 40))).convert("L").save(tmp_path / "grey.png", icc_profile=profile)
    restore(RestoreSettings(str(tmp_path / "grey.png"), str(tmp_path / "c.png"), model=str(tmp_path / "model")))
    made = Image.open(tmp_path / "c.png")
    assert made.mode == "RGB"
    assert not made.info.get("icc_profile")
    assert (np.asarray(made).std(2) > 3).any()


def test_the_command_restores_a_picture_without_a_mask(tmp_path, capsys):
    model = built("upscale")
    models.save(str(tmp_path / "model"), model.network, model.settings)
    Image.fromarray(picture((30, 44))).save(tmp_path / "a.png")
    source, target = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    restore(RestoreSettings(source, target, model=str(tmp_path / "model")))
    assert np.asarray(Image.open(target)).shape == (60, 88, 3)
    said = capsys.readouterr().out
    assert "--task upscale, unet, trained on synthetic:1500 at 32" in said
    assert "b.png: 88x60 pixels, in " in said
    for wrong in ({"mask": source}, {"grow": 2}):
        with pytest.raises(InputError, match="the model changes the whole picture and fills no holes; leave it out"):
            restore(RestoreSettings(source, target, model=str(tmp_path / "model"), **wrong))
