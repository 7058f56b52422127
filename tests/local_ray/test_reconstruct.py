"""jobs/reconstruct.py: pictures in any form and place, restored once despite interruptions."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from networks import tiny
from pictures import png, write_parquet, zipped
from PIL import Image
from runs import ROOT

from faceae import claim, models, storage
from faceae.config.restore import ReconstructSettings
from faceae.data.full_size import read_full_size, unpacked
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.drivers import reconstruct
from faceae.errors import InputError, RunFailedError

pytestmark = pytest.mark.usefixtures("ray_cluster")

BOX = (slice(10, 22), slice(12, 30))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("trained") / "model")
    models.save(uri, *tiny("unet"))
    return uri


@pytest.fixture(scope="module")
def pictures():
    """Names and contents of files: pictures of several sizes with a box, one of them rotated by EXIF; a picture without
    a box; and a file that is no picture."""
    files = {}
    for number, (width, height) in enumerate([(32, 32), (64, 48), (40, 90)]):
        pixels = np.asarray(Image.fromarray(portrait(number, 64)).resize((width, height))).clip(1)
        pixels[BOX] = 0
        files[f"{number % 2}/face{number}.png"] = png(Image.fromarray(pixels))
    exif = Image.Exif()
    exif[0x0112] = 6
    files["1/turned.png"] = png(Image.open(io.BytesIO(files["1/face1.png"])), exif=exif)
    files["whole.jpg"] = png(Image.fromarray(portrait(5, 64).clip(30)))
    files["broken.png"] = b"no picture"
    return files


def put(folder, files):
    for name, content in files.items():
        storage.write(f"{folder}/{name}", content)
    return str(folder)


def restore(model, source, dest, **more):
    return reconstruct.reconstruct(ReconstructSettings(str(model), str(source), str(dest), **more))


def job(*arguments):
    """Runs a real job, with a Ray of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "jobs/reconstruct.py", *map(str, arguments)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def pixels_of(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def assert_restored(pictures, dest, names=("0/face0", "1/face1", "0/face2")):
    for name in names:
        before, after = pixels_of(pictures[f"{name}.png"]), pixels_of(storage.read(f"{dest}/{name}.png"))
        hole = np.zeros(before.shape[:2], np.bool_)
        hole[BOX] = True
        assert (after[~hole] == before[~hole]).all()
        assert after[hole].any(1).all()


def reasons(dest):
    return {row["image_id"]: row["reason"] for row in storage.read_lines(f"{dest}/rejected.jsonl")}


def test_each_picture_in_a_folder_is_restored_only_once(model, pictures, tmp_path, capsys):
    source, dest = put(tmp_path / "in", pictures), tmp_path / "out"
    summary = restore(model, source, dest)
    assert "restored  4 pictures in " in capsys.readouterr().out
    assert summary == storage.read_json(f"{dest}/summary.json")
    assert summary["counts"] == {"pictures": 6, "restored": 4, "there_before": 0, "rejected": 2}
    assert_restored(pictures, dest)
    turned = Image.open(dest / "1" / "turned.png")
    assert turned.size == (48, 64)
    assert reasons(dest).keys() == {"broken.png", "whole.jpg"}
    assert reasons(dest)["whole.jpg"].startswith("there is no solid black box of 8x8 pixels or more in it")

    (dest / "1" / "face1.png").unlink()
    (dest / "1" / ".face1.png.1a2b3c4d.partial").write_bytes(b"half")
    left = (dest / "0" / "face0.png").stat().st_mtime_ns
    capsys.readouterr()
    page = (dest / "before-after.html").read_text()
    again = restore(model, source, dest)
    assert page.count('<img alt="after"') == 4
    assert again["counts"] == {"pictures": 6, "restored": 1, "there_before": 3, "rejected": 2}
    assert "resumed   3 are there, 3 pictures left" in capsys.readouterr().out
    assert (dest / "0" / "face0.png").stat().st_mtime_ns == left
    assert_restored(pictures, dest)
    assert not list(dest.rglob(".*"))


def test_pictures_are_restored_from_and_to_a_bucket_with_masks(model, pictures, s3):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (20, 20, 40, 30))
    names = ["0/face0", "1/face1", "whole"]
    masks = put("s3://faces/bulk/masks", {f"{name}.png": png(mask) for name in names})
    storage.write("s3://faces/bulk/in.zip", zipped({**pictures, "../face9.png": pictures["0/face0.png"]}))
    dest = "s3://faces/bulk/out"
    done = job(model, "s3://faces/bulk/in.zip", dest, "--masks", masks)
    assert done.returncode == 0, done.stderr
    assert "summary   s3://faces/bulk/out/summary.json\n" in done.stdout
    summary = storage.read_json(f"{dest}/summary.json")
    assert summary["counts"] == {"pictures": 7, "restored": 3, "there_before": 0, "rejected": 4}
    assert reasons(dest)["0/face2.png"] == f"there is no mask with its name in {masks}; add it"
    assert reasons(dest)["../face9.png"] == "its name leads out of the folder"
    before, after = pixels_of(pictures["whole.jpg"]), pixels_of(storage.read(f"{dest}/whole.png"))
    hole = np.asarray(mask) > 0
    assert (after[~hole] == before[~hole]).all()
    assert (after[hole] != before[hole]).any(1).mean() > 0.9
    scaled = pixels_of(storage.read(f"{dest}/0/face0.png")) != pixels_of(pictures["0/face0.png"])
    assert scaled.any(2).sum() <= 50


@pytest.mark.parametrize("kind", ["hugging face", "decoded"])
def test_pictures_and_masks_are_read_from_tables(tmp_path, kind):
    write_parquet(tmp_path / "faces.parquet", kind, count=5)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 8, 28, 28))
    encoded = pa.array([png(mask)] * 5, pa.binary())
    pq.write_table(pa.table({"image_id": [f"{n:05}.png" for n in range(5)], "image": encoded}), tmp_path / "m.parquet")
    pictures, masks = (list_sources([str(tmp_path / name)], "").entries for name in ("faces.parquet", "m.parquet"))
    (block,) = read_full_size(pictures, [entry.image_id for entry in pictures], masks, 32)
    for number, row in enumerate(block.to_pylist()):
        pixels, hole = unpacked(row)
        assert row["name"] == f"{number:05}.png"
        assert (pixels == portrait(number, 32)).all()
        assert (hole[4:14, 4:14].sum(), hole.sum()) == (100, 100)


def test_one_mask_serves_a_folder_and_every_option_reaches_the_workers(model, pictures, tmp_path):
    """A picture of another shape costs a line, and the result is that of `faceae restore`."""
    mask = Image.new("L", (16, 16))
    mask.paste(255, (4, 4, 10, 10))
    face = Image.fromarray(portrait(3, 64))
    source = put(tmp_path / "in", {"a.png": png(face), "wide.png": png(face.crop((0, 0, 64, 30)))})
    face.save(tmp_path / "in" / "b.jpg")
    put(tmp_path, {"mask.png": png(mask)})
    options = {"masks": str(tmp_path / "mask.png"), "grow": 4, "feather": 4, "format": "source"}
    summary = restore(model, source, tmp_path / "out", **options)
    assert summary["counts"]["restored"] == 2
    assert reasons(tmp_path / "out") == {
        "wide.png": "its mask has 16x16 pixels, another shape than the picture's 64x30"
    }
    assert Image.open(tmp_path / "out" / "b.jpg").format == "JPEG"
    alone = models.load(model)(tmp_path / "in" / "a.png", tmp_path / "mask.png", grow=4, feather=4)
    assert (np.asarray(alone) == np.asarray(Image.open(tmp_path / "out" / "a.png"))).all()


def test_a_failing_write_is_named_and_finished_pictures_stay(model, pictures, tmp_path):
    source, dest = put(tmp_path / "in", pictures), tmp_path / "out"
    restore(model, source, dest)
    shutil.rmtree(dest / "1")
    (dest / "1").write_bytes(b"a file where a folder should be")
    with pytest.raises(
        RunFailedError, match=r"^FileExistsError: .*; what is finished stays: fix this, and the same command continues"
    ):
        restore(model, source, dest)


MASK = Image.new("L", (32, 32))
MASK.paste(255, (4, 4, 14, 14))


@pytest.fixture(scope="module")
def begun(model, pictures, tmp_path_factory):
    """A folder in which a picture is restored and another is left, with the settings that gave it."""
    root = tmp_path_factory.mktemp("begun")
    masks = put(root / "masks", {"0/face0.png": png(MASK), "0/face2.png": png(MASK)})
    source = put(root / "in", {name: pictures[name] for name in ("0/face0.png", "0/face2.png")})
    restore(model, source, root / "out", masks=masks)
    (root / "out" / "0" / "face2.png").unlink()
    models.save(str(root / "other"), *tiny("article"))
    return root


def edit(name):
    def change(root):
        path = root / name
        Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)

    return change


@pytest.mark.parametrize(
    ("options", "change", "words"),
    [
        ({"model": "other"}, None, r"another MODEL \(.*/model then\)"),
        ({"grow": 1}, None, r"another --grow \(0 then\)"),
        ({"format": "source"}, None, r"another --format \(png then\)"),
        ({"masks": None}, None, r"another --masks \(.*masks then\)"),
        ({}, lambda root: put(root / "in", {"more.png": png(MASK)}), r"another SOURCE \(.*in then\)"),
        ({}, lambda root: (root / "in" / "0" / "face2.png").unlink(), r"another SOURCE \(.*and another --masks \("),
        ({}, edit("in/0/face0.png"), r"another SOURCE \("),
        ({}, edit("masks/0/face0.png"), r"another --masks \("),
    ],
)
def test_pictures_of_another_model_source_or_mask_are_not_taken_for_finished(begun, tmp_path, options, change, words):
    root = shutil.copytree(begun, tmp_path / "begun")
    settings = {"model": storage.read_json(f"{begun}/out/summary.json")["model"]["uri"], "masks": str(root / "masks")}
    places = {"model", "masks"}
    settings |= {name: str(root / value) if value and name in places else value for name, value in options.items()}
    if change:
        change(root)
    before = (root / "out" / "summary.json").read_bytes()
    with pytest.raises(InputError, match=f"^DEST .*out: holds pictures that were restored with {words}") as error:
        restore(settings.pop("model"), root / "in", root / "out", **settings)
    assert "name another folder" in str(error.value)
    assert (root / "out" / "summary.json").read_bytes() == before


@pytest.mark.parametrize(
    "files",
    [
        {"0/face0.png": b"of somebody else"},
        {"rest.zip.partial": b"a download"},
        {"summary.json": b'{"best_epoch": 3}', "config.json": b"{}"},
        {"summary.json": b"not JSON"},
        {"summary.json": b"[]"},
        {"summary.json": b"\xff\xfe"},
    ],
)
def test_a_folder_with_files_that_reconstruct_did_not_write_is_refused_and_left_alone(model, pictures, tmp_path, files):
    source, dest = put(tmp_path / "in", pictures), put(tmp_path / "out", files)
    with pytest.raises(InputError, match=r"^DEST .*out: it has files, but is not a folder that reconstruct wrote;"):
        restore(model, source, dest)
    assert {name: storage.read(f"{dest}/{name}") for name in storage.list_files(dest)} == files


def test_a_damaged_summary_of_our_own_is_an_error_of_one_line(model, pictures, tmp_path):
    source = put(tmp_path / "in", pictures)
    dest = put(tmp_path / "out", {"summary.json": b'{"made_by": "jobs/reconstruct.py", "model": 3}', "a.png": b""})
    with pytest.raises(InputError, match=r"^DEST .*summary\.json: is damaged; name another folder$"):
        restore(model, source, dest)


def test_one_odd_name_costs_one_line(model, pictures, tmp_path):
    """Names that no file system can hold come from archives and tables, and those that are not text from folders."""
    ids = ["a\0.png", "../b.png", "d/./c.png", "d/c.png", "whole.png", "y" * 252 + ".jpg", "x" * 241 + ".png"]
    table = pa.table({"image_id": ids, "image": pa.array([pictures["0/face0.png"]] * len(ids), pa.binary())})
    pq.write_table(table, tmp_path / "odd.parquet")
    summary = restore(model, tmp_path / "odd.parquet", tmp_path / "out")
    assert summary["counts"] == {"pictures": 7, "restored": 3, "there_before": 0, "rejected": 4}
    assert reasons(tmp_path / "out").keys() == set(ids[:2]) | {ids[3], ids[5]}

    put(tmp_path / "in", {"a.png": pictures["0/face0.png"], ids[-1]: pictures["0/face0.png"]})
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.png")).write_bytes(pictures["0/face0.png"])
    summary = restore(model, tmp_path / "in", tmp_path / "out2")
    assert summary["counts"] == {"pictures": 3, "restored": 2, "there_before": 0, "rejected": 1}
    assert reasons(tmp_path / "out2") == {r"caf\xe9.png": "its name is not UTF-8; rename it"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "nowhere"}, "MODEL nowhere: it does not exist"),
        ({"source": "nowhere"}, "SOURCE .*nowhere: it does not exist"),
        ({"dest": "in"}, "DEST .*in: this is where the pictures of SOURCE are"),
        ({"dest": "in/0/sub"}, "DEST .*sub: this is where the pictures of SOURCE are"),
        ({"source": "in/0/face0.png", "dest": "in/0"}, "DEST .*: this is where the pictures of SOURCE are"),
        ({"dest": "in/broken.png/out"}, "DEST .*out: "),
        ({"masks": "nowhere"}, "--masks .*nowhere: it does not exist"),
        ({"masks": "other"}, "--masks .*other: no mask is named like a picture of SOURCE"),
        ({"source": "whole"}, "SOURCE: no picture could be restored; 1 of 1: there is no solid black box"),
        ({"model": ""}, "MODEL: no model given; write MODEL SOURCE DEST"),
    ],
)
def test_wrong_input_gives_a_one_line_error(model, pictures, tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    put("in", pictures)
    put("other", {"x.png": pictures["whole.jpg"]})
    put("whole", {"x.png": pictures["whole.jpg"]})
    settings = {"model": model, "source": "in", "dest": "out"} | change
    with pytest.raises(InputError, match=words) as error:
        reconstruct.reconstruct(ReconstructSettings(**settings))
    assert "\n" not in str(error.value)


def test_the_job_says_what_is_wrong_and_exits_with_2(tmp_path):
    done = job(tmp_path / "model", "in", "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: MODEL {tmp_path}/model: it does not exist; check the path\n"


def test_one_process_at_a_time_writes_to_dest(model, pictures, tmp_path):
    source, dest = put(tmp_path / "in", pictures), tmp_path / "out"
    with claim.take(str(dest), "the test"):
        with pytest.raises(InputError, match=r"^DEST .*/out: .* \(pid \d+\) is working on it"):
            restore(model, source, dest)
        assert [path.name for path in dest.iterdir()] == [claim.FILE]
