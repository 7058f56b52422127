"""Prepared images: equal to those of their source, complete, counted, and finished after any interruption."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import SIZE, png, read_all, tarred, write_parquet, zipped
from PIL import Image
from processes import assert_no_process_is_left, kill_session
from runs import ROOT

from faceae import cli, storage
from faceae.config import Data, Mask, Output, Settings, Source
from faceae.config.jobs import PrepareSettings, Shard
from faceae.data import images
from faceae.data.cache import decode, take
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.sources import list_sources
from faceae.data.split import Split
from faceae.data.synthetic import portrait
from faceae.drivers.prepare import prepare
from faceae.errors import InputError
from faceae.run_folder import RunFolder
from faceae.tasks import Inpaint

pytestmark = pytest.mark.usefixtures("ray_cluster")

FACES = 40


def settings(source, out, name="set", megabytes=0.031, resume=False, **data):
    """Settings that put ten 32x32 images into a shard."""
    data = {"image_size": SIZE, **data}
    return PrepareSettings(Source((str(source),), **data), Shard(megabytes), Output(name, str(out), resume))


def prepared(source, out, name="set", **changes):
    """Prepares with the tests' Ray; returns the folder and the manifest."""
    return f"{out}/{name}", prepare(settings(source, out, name, **changes))


def files_of(folder):
    return {name: storage.read(f"{folder}/{name}") for name in storage.list_files(str(folder))}


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """The same images in every form; the tar files also hold JSON files, as WebDataset has it."""
    root = tmp_path_factory.mktemp("forms")
    files = {f"{number:05d}.png": png(Image.fromarray(portrait(number, SIZE))) for number in range(FACES)}
    for name, content in files.items():
        storage.write(str(root / "tree" / name), content)
    (root / "ffhq.zip").write_bytes(zipped(files, [0, 8]))
    names = sorted(files)
    for shard in range(2):
        half = names[shard * FACES // 2 :][: FACES // 2]
        content = {n: files[n] for n in half} | {n.replace("png", "json"): b"{}" for n in half}
        storage.write(str(root / "tars" / f"{shard}.tar"), tarred(content))
    write_parquet(root / "face.parquet", "hugging face", count=FACES, row_group=7)
    return root


@pytest.mark.parametrize("form", ["tree", "ffhq.zip", "tars", "face.parquet"])
def test_prepared_images_equal_those_of_the_source(forms, tmp_path, form):
    folder, manifest = prepared(forms / form, tmp_path)
    direct, again = (list_sources([str(source)], "--data.source").entries for source in (forms / form, folder))
    assert [entry.image_id for entry in again] == [entry.image_id for entry in direct]
    pixels = read_all(again)
    for image_id, original in read_all(direct).items():
        assert (pixels[image_id] == original).all()
    split, other = (Split(Data(source=(str(source),))) for source in (forms / form, folder))
    for side in ("train", "val"):
        assert [e.image_id for e in getattr(split, side)] == [e.image_id for e in getattr(other, side)]
    assert manifest["counts"] == {"read": FACES, "rejected": 0, "images": FACES}
    expected = sum(
        int.from_bytes(hashlib.sha256(image_id.encode() + b"\0" + image.tobytes()).digest())
        for image_id, image in pixels.items()
    )
    assert int(manifest["images_sha256_sum"], 16) == expected % 2**256


def test_the_manifest_describes_the_files(forms, tmp_path):
    folder, manifest = prepared(forms / "tree", tmp_path)
    files = files_of(folder)
    assert manifest == json.loads(files["manifest.json"])
    assert set(files) == {"config.json", "manifest.json", "rejected.jsonl"} | {s["name"] for s in manifest["shards"]}
    assert len(manifest["shards"]) == 4
    for shard in manifest["shards"]:
        content = files[shard["name"]]
        assert (shard["bytes"], shard["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert pq.read_metadata(f"{folder}/{shard['name']}").num_rows == shard["rows"] == 10
    assert files["rejected.jsonl"] == b""


def test_training_sees_the_same_images_in_the_same_order(forms, tmp_path):
    """So the losses are the same, to the last digit."""
    folder, _ = prepared(forms / "ffhq.zip", tmp_path)
    seen = []
    for source in (forms / "tree", forms / "ffhq.zip", forms / "face.parquet", folder):
        train = Split(Data(source=(str(source),))).train
        blocks, _ = decode(train, SIZE, lambda count: None)
        order = GlobalBatchSampler(blocks, 3, 8, Inpaint(Mask(size=8), SIZE)).permutation(2)
        ids, pixels = take(blocks.refs, blocks.positions()[order])
        seen.append((ids, pixels.tobytes()))
    assert all(one == seen[0] for one in seen[1:])


def test_large_images_are_scaled_as_they_are_decoded_in_training(tmp_path):
    original = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    (tmp_path / "0.png").write_bytes(encoded := png(Image.fromarray(original), compress_level=0))
    folder, _ = prepared(tmp_path / "0.png", tmp_path, image_size=128, megabytes=1)
    (found,) = read_all(list_sources([folder], "--data.source").entries, 128).values()
    assert (found == images.decode(encoded, 128)).all()


def test_a_limit_prepares_what_training_with_it_would_read(forms, tmp_path):
    folder, _ = prepared(forms / "tree", tmp_path, limit=15)
    split = Split(Data(source=(str(forms / "tree"),), limit=15))
    ids = {entry.image_id for entry in list_sources([folder], "--data.source").entries}
    assert ids == {entry.image_id for entry in split.train + split.val}


@pytest.fixture
def with_bad(tmp_path):
    """A folder of 20 portraits, two unusable images and an AppleDouble file."""
    root = tmp_path / "bad"
    root.mkdir()
    for number in range(20):
        (root / f"{number:02}.png").write_bytes(png(Image.fromarray(portrait(number, SIZE))))
    for name in ("03a.png", "17a.png"):
        (root / name).write_bytes(b"no image")
    (root / "._1.png").write_bytes(b"x")
    return root


def test_rejected_images_are_listed_and_left_out(with_bad, tmp_path):
    folder, manifest = prepared(with_bad, tmp_path, max_rejected_fraction=0.1)
    assert manifest["counts"] == {"read": 23, "rejected": 3, "images": 20}
    assert [row["image_id"] for row in storage.read_lines(f"{folder}/rejected.jsonl")] == [
        "._1.png",
        "03a.png",
        "17a.png",
    ]
    assert len(read_all(list_sources([folder], "--data.source").entries)) == 20


def test_too_many_rejected_images_stop_it_and_a_higher_limit_continues(with_bad, tmp_path):
    with pytest.raises(InputError, match=r"of 22 images cannot be used, more than --data\.max-rejected-fraction 0\.01"):
        prepared(with_bad, tmp_path)
    assert "03a.png" in {row["image_id"] for row in storage.read_lines(f"{tmp_path}/set/rejected.jsonl")}
    folder, manifest = prepared(with_bad, tmp_path, resume=True, max_rejected_fraction=0.5)
    assert manifest["counts"]["images"] == 20
    assert files_of(folder).keys() == {"config.json", "manifest.json", "rejected.jsonl"} | {
        shard["name"] for shard in manifest["shards"]
    }


def prepare_partly(source, out, monkeypatch, shards, **data):
    """Writes some shards and leaves the folder as a killed process would; returns it."""
    from faceae.data import shards as module

    with monkeypatch.context() as patch:
        patch.setattr("faceae.drivers.prepare.plan", lambda *args: dict(list(module.plan(*args).items())[:shards]))
        patch.setattr("faceae.drivers.prepare._finish", lambda *args: None)
        patch.setattr("faceae.drivers.prepare._clear", lambda *args: None)
        patch.setattr("faceae.drivers.prepare._print_result", lambda *args: None)
        return prepared(source, out, **data)[0]


def test_an_unfinished_set_and_one_with_a_missing_shard_are_refused(forms, tmp_path, monkeypatch):
    folder = prepare_partly(forms / "tree", tmp_path, monkeypatch, 2)
    with pytest.raises(InputError, match=r"is unfinished; finish it with `(.*)`") as error:
        list_sources([folder], "--data.source")
    command = re.search(r"`faceae prepare (.*)`", str(error.value))[1].split()
    prepare(cli.parse(command, PrepareSettings))
    assert len(list_sources([folder], "--data.source").entries) == FACES
    (tmp_path / "set" / "part-00001.parquet").unlink()
    with pytest.raises(InputError, match=r"1 of its 4 shards are missing, such as part-00001\.parquet"):
        list_sources([folder], "--data.source")


def test_resuming_writes_only_what_is_missing(forms, tmp_path, monkeypatch):
    whole = files_of(prepared(forms / "tree", tmp_path, "whole")[0])
    folder = prepare_partly(forms / "tree", tmp_path, monkeypatch, 3)
    written = {
        name: (tmp_path / "set" / name).stat().st_mtime_ns for name in ("part-00000.parquet", "part-00002.parquet")
    }
    (tmp_path / "set" / "part-00003.parquet").write_bytes(b"without a record it is not finished")
    (tmp_path / "set" / ".part-00003.parquet.1a2b3c4d.partial").write_bytes(b"half")
    (tmp_path / "set" / "rest.zip.partial").write_bytes(b"of somebody else")
    prepared(forms / "tree", tmp_path, resume=True)
    again = files_of(folder)
    assert again.pop("rest.zip.partial") == b"of somebody else"
    assert again.keys() == whole.keys()
    assert all(again[name] == whole[name] for name in whole if name != "config.json")
    assert {name: (tmp_path / "set" / name).stat().st_mtime_ns for name in written} == written


def test_a_source_that_changed_in_between_is_refused(with_bad, tmp_path, monkeypatch):
    prepare_partly(with_bad, tmp_path, monkeypatch, 1, max_rejected_fraction=1)
    (with_bad / "99.png").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"--data\.source: it has changed since set was begun \(22 images then, 23 now"
    ):
        prepared(with_bad, tmp_path, resume=True)


@pytest.mark.parametrize("junk", [b"{", b"[]", b"{}", b'{"made_by": "jobs/prepare.py"}', b"\xff"])
def test_a_damaged_manifest_is_an_error_of_one_line(with_bad, tmp_path, junk):
    RunFolder(settings(with_bad, tmp_path)).open()
    (tmp_path / "set" / "manifest.json").write_bytes(junk)
    with pytest.raises(InputError, match=r"set/manifest\.json: is damaged; prepare the images under another"):
        prepare(settings(with_bad, tmp_path, resume=True))
    assert (tmp_path / "set" / "manifest.json").read_bytes() == junk


def test_another_image_size_or_a_taken_name_is_refused(forms, tmp_path):
    prepared(forms / "tree", tmp_path)
    with pytest.raises(InputError, match=r"--run\.name set: a run of this name already exists"):
        prepared(forms / "tree", tmp_path)
    with pytest.raises(InputError, match=r"--data\.image-size 16: the run set was started with 32"):
        prepared(forms / "tree", tmp_path, resume=True, image_size=16)
    with pytest.raises(InputError, match=r"--run\.name set: .*config\.json was written by another job"):
        cli.parse(["--run.storage", str(tmp_path), "--run.name", "set", "--run.resume"], Settings)


def test_help_shows_only_the_flags_that_apply(capsys):
    with pytest.raises(SystemExit):
        cli.parse(["--help"], PrepareSettings)
    shown = set(re.findall(r"--[\w.-]+", capsys.readouterr().out))
    groups = {"data": ("source", "image-size", "limit", "max-rejected-fraction"), "run": ("name", "storage", "resume")}
    flags = {f"--{group}.{field}" for group, fields in groups.items() for field in fields}
    assert flags | {"--help", "--shard.megabytes"} <= shown
    assert not {
        flag for flag in shown if flag.startswith(("--model", "--optim", "--train", "--data.val", "--run.track"))
    }


def start(*flags):
    """Starts a real job, with a Ray and a session of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "jobs/prepare.py", *flags],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill(job):
    """Kills the driver, and then all of its Ray processes."""
    job.kill()
    job.wait()
    kill_session(job.pid)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine takes several times as long
def test_a_killed_job_from_and_to_a_bucket_resumes_to_the_same_bytes(s3, tmp_path):
    """Large PNGs make it slow enough to be killed; the undisturbed set is prepared from the same archive on a disk."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 512, 512, 3), np.uint8)
    archive = zipped({f"{i:05}.png": png(Image.fromarray(image), compress_level=0) for i, image in enumerate(noise)})
    (tmp_path / "ffhq.zip").write_bytes(archive)
    storage.write("s3://faces/prepare/ffhq.zip", archive)
    flags = ["--data.source", "s3://faces/prepare/ffhq.zip", "--data.image-size", "256", "--shard.megabytes", "0.6"]
    flags += ["--run.storage", "s3://faces/prepare", "--run.name", "set"]
    job, finished = start(*flags), "s3://faces/prepare/set/finished"
    try:
        while len(storage.list_files(finished, missing_ok=True)) < 2:
            assert job.poll() is None, job.stdout.read()
            time.sleep(0.05)
    finally:
        kill(job)
    assert_no_process_is_left(job.pid)
    assert 2 <= len(storage.list_files(finished)) < 16
    again = start(*flags, "--run.resume")
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert re.search(r"resumed   \d+ of 16 shards are there, \d+ images left", output)
    assert "train     faceae train --data.source s3://faces/prepare/set --data.image-size 256\n" in output
    whole, manifest = prepared(tmp_path / "ffhq.zip", tmp_path, "whole", megabytes=0.6, image_size=256)
    resumed, undisturbed = files_of("s3://faces/prepare/set"), files_of(whole)
    assert resumed.keys() == undisturbed.keys()
    assert all(resumed[shard["name"]] == undisturbed[shard["name"]] for shard in manifest["shards"])
    other = json.loads(resumed["manifest.json"])
    assert all(other[key] == manifest[key] for key in manifest if key not in ("settings", "listing"))
    assert len(list_sources(["s3://faces/prepare/set"], "--data.source").entries) == 48
