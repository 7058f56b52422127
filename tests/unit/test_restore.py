"""`faceae restore`, and a model called with paths: one picture in one process, without Ray."""

import os
import subprocess
import sys

import numpy as np
import pytest
from networks import tiny
from PIL import Image

import faceae
from faceae import models
from faceae.config.restore import RestoreSettings
from faceae.data.synthetic import portrait
from faceae.drivers.restore import restore
from faceae.errors import InputError

FACE = np.asarray(Image.fromarray(portrait(1, 64)).crop((0, 0, 64, 50))).clip(1)
HOLE = np.zeros((50, 64), np.bool_)
HOLE[20:30, 16:40] = True


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, a picture and its mask, which is half as large."""
    folder = tmp_path_factory.mktemp("made")
    models.save(str(folder / "out" / "old" / "model"), *tiny("unet", source="photographs"))
    Image.fromarray(FACE).save(folder / "a.png")
    Image.fromarray(HOLE[::2, ::2]).save(folder / "m.png")
    return folder


@pytest.fixture(autouse=True)
def here(made, monkeypatch):
    monkeypatch.chdir(made)


def pixels(name):
    return np.asarray(Image.open(name).convert("RGB"))


def test_the_command_restores_a_picture_without_ray(made):
    program = (
        "import sys; from faceae import cli\n"
        "try: cli.main()\n"
        "finally: print('ray' in sys.modules, 'ray.data' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "restore", "a.png", "--mask", "m.png", "new/out.png"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    model, restored, ray = done.stdout.splitlines()
    assert model.startswith("model     out/old/model: unet, trained on photographs at 32")
    assert model.endswith("(the newest of 1 in out/*/model; --model names another)")
    assert restored.startswith("restored  new/out.png: 240 of 64x50 pixels, in ")
    assert ray == "False False"
    after = pixels("new/out.png")
    assert (after[~HOLE] == FACE[~HOLE]).all()
    assert (after[HOLE] != FACE[HOLE]).any(1).mean() > 0.9
    assert (np.asarray(faceae.load("out/old/model")("a.png", made / "m.png")) == after).all()


def test_the_newest_model_is_taken_and_a_named_one_before_it(made, capsys):
    models.save("out/new/model", *tiny("article", source="s3://bucket/faces"))
    os.utime("out/new/model/model.safetensors", ns=(2**62, 2**62))
    restore(RestoreSettings("a.png", "b.png", mask="m.png"))
    assert "model     out/new/model: article" in capsys.readouterr().out
    restore(RestoreSettings("a.png", "b.png", mask="m.png", model="out/old/model"))
    said = capsys.readouterr().out
    assert "model     out/old/model: unet" in said
    assert "newest" not in said


def test_black_boxes_are_the_holes_without_a_mask_and_grow():
    given = FACE.copy()
    given[HOLE] = 0
    Image.fromarray(given).save("boxes.png")
    restore(RestoreSettings("boxes.png", "c.png", model="out/old/model", grow=2, feather=2))
    changed = (pixels("c.png") != given).any(2)
    assert changed[HOLE].all()
    ring = np.zeros_like(HOLE)
    ring[18:32, 14:42] = True
    assert not changed[~ring].any()
    assert changed[ring & ~HOLE].mean() > 0.5
    restored = np.asarray(faceae.load("out/old/model")("boxes.png", grow=2, feather=2))
    assert (restored == pixels("c.png")).all()


def test_a_jpeg_is_written_in_its_own_format_if_asked():
    Image.fromarray(FACE).save("photo.jpg", quality=80)
    restore(RestoreSettings("photo.jpg", "d.JPEG", mask="m.png", model="out/old/model", format="source"))
    after = Image.open("d.JPEG")
    assert after.format == "JPEG"
    assert after.quantization == Image.open("photo.jpg").quantization


def test_what_is_missing_or_empty_is_named_with_what_to_do(made, tmp_path):
    Image.new("L", (64, 50)).save("empty.png")
    Image.new("L", (64, 50), 255).save("full.png")
    (made / "junk.png").write_bytes(b"junk")
    wrong = {
        ("no.png", "o.png"): "no.png: it does not exist; check the path",
        ("out", "o.png"): "out: is a folder; name one picture (`faceae reconstruct` restores folders)",
        ("junk.png", "o.png"): "junk.png: not an image (PNG, ",
        ("a.png", "o.png"): "a.png: there is no solid black box of 8x8 pixels or more in it; give it a mask that is",
        ("a.png", "o.png", "no.png"): "no.png: it does not exist; check the path",
        ("a.png", "o.png", "empty.png"): "empty.png: hides nothing; a hole must be white",
        ("a.png", "o.png", "full.png"): "full.png: covers the whole picture",
        ("a.png", "o.png", "junk.png"): "junk.png: cannot be used: not an image",
        ("a.png", "o.jpg", "m.png"): "OUT o.jpg: with --format png it is a .png, so name it so",
        ("a.png", "./a.png", "m.png"): "OUT ./a.png: this file is read, and would be replaced",
        ("a.png", "m.png", "m.png"): "OUT m.png: this file is read",
        ("a.png", "a.png/o.png", "m.png"): "OUT a.png/o.png: ",
        ("a.png",): "OUT: no file to write given; write PICTURE OUT",
    }
    for (picture, *rest), words in wrong.items():
        out, mask = [*rest, None, None][:2]
        with pytest.raises(InputError) as error:
            restore(RestoreSettings(picture, out or "", mask=mask, model="out/old/model"))
        assert str(error.value).startswith(words)
    with pytest.raises(InputError, match=r"^m.png: grown by 100 pixels, the hole is the whole picture"):
        restore(RestoreSettings("a.png", "o.png", mask="m.png", model="out/old/model", grow=100))
    with pytest.raises(InputError, match=r"^--feather 3: the holes are black boxes, .* at least --grow 3, too$"):
        restore(RestoreSettings("a.png", "o.png", model="out/old/model", grow=2, feather=3))
    assert not (made / "o.png").exists()


def test_a_model_of_drawn_portraits_is_not_taken_for_a_photograph_unless_it_is_named(
    made, tmp_path, monkeypatch, capsys
):
    picture, mask = (str(made / name) for name in ("a.png", "m.png"))
    monkeypatch.chdir(tmp_path)
    models.save("out/first/model", *tiny("unet"))
    restore(RestoreSettings(picture, "o.png", mask=mask))
    assert "since those in out/*/model know drawn portraits only" in " ".join(capsys.readouterr().out.split())
    restore(RestoreSettings(picture, "o.png", mask=mask, model="out/first/model"))
    assert "model     out/first/model: unet, trained on synthetic:" in capsys.readouterr().out


def test_without_a_model_the_network_that_comes_with_faceae_fills_the_hole(made, tmp_path, monkeypatch, capsys):
    picture, mask = (str(made / name) for name in ("a.png", "m.png"))
    monkeypatch.chdir(tmp_path)
    restore(RestoreSettings(picture, "o.png", mask=mask))
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("model the network for scratches that comes with faceae, since no run is in")
    assert "faceae train --preset restore" in said
    after = pixels("o.png")
    assert (after[~HOLE] == FACE[~HOLE]).all()
    assert (after == np.asarray(faceae.load()(picture, mask))).all()
    for name in ("two", "one"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "config.json").write_text("{}")
    restore(RestoreSettings(picture, "o.png", mask=mask))
    assert "since the runs in out, one, two, have no model yet" in " ".join(capsys.readouterr().out.split())
