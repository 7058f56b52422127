"""Latent vectors: those of the network, every image once, continued after a stop, and the nearest of them."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from networks import tiny
from pages import assert_self_contained
from pictures import png, read_all, zipped
from PIL import Image
from processes import kill_when
from runs import ROOT

import faceae
from faceae import models, storage
from faceae.config import Output
from faceae.config.embed import EmbedSettings
from faceae.config.jobs import ImagesOfModel, ReplicaScale
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.drivers.embed import embed
from faceae.errors import InputError
from faceae.evaluation import latents

pytestmark = pytest.mark.usefixtures("ray_cluster")

FACES = 30


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Portraits, of which one occurs twice, and a file that is no image."""
    root = tmp_path_factory.mktemp("source")
    for number in range(FACES):
        (root / f"{number:02}.png").write_bytes(png(Image.fromarray(portrait(number, 32))))
    (root / "twin.png").write_bytes((root / "07.png").read_bytes())
    (root / "bad.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    uri = tmp_path_factory.mktemp("model")
    models.save(str(uri), *tiny())
    return uri


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "PART_IMAGES", 10)
        yield


def settings(model, source, out, **changes):
    data = ImagesOfModel((str(source),), max_rejected_fraction=0.1)
    run = Output(storage=str(out), name="e", resume=changes.pop("resume", False))
    return EmbedSettings(str(model), data, batch_size=7, scale=ReplicaScale(gpu="off"), run=run, **changes)


@pytest.fixture(scope="module")
def embedded(model, source, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return embed(settings(model, source, out)), out


@pytest.fixture
def begun(embedded, tmp_path):
    """A copy of the embedding, to be continued."""
    shutil.copytree(embedded[1], tmp_path, dirs_exist_ok=True)
    return tmp_path


def parts(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "e").glob("*.parquet"))}


def vectors(folder):
    tables = [pq.read_table(path) for path in sorted((folder / "e").glob("*.parquet"))]
    return {row["image_id"]: row["latent"] for table in tables for row in table.to_pylist()}


def assert_of_network(found, source, model):
    pixels = {name: each for name, each in read_all(list_sources([str(source)], "").entries).items() if name in found}
    given = torch.tensor(np.stack(list(pixels.values()))).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = faceae.load(str(model)).network.encode(given, torch.zeros(len(given), 1, 32, 32))
    np.testing.assert_allclose(np.array([found[name] for name in pixels]), expected, rtol=1e-4, atol=1e-5)


def test_each_usable_image_has_the_vector_that_the_network_makes_of_it(embedded, model, source):
    summary, out = embedded
    assert len(parts(out)) == 3
    found = vectors(out)
    assert sorted(found) == [f"{number:02}.png" for number in range(FACES)] + ["twin.png"]
    assert_of_network(found, source, model)
    assert summary["counts"] == {"read": FACES + 2, "rejected": 1, "images": FACES + 1}
    assert summary["latent_dim"] == 8
    assert json.loads((out / "e" / "summary.json").read_text()) == summary
    (line,) = storage.read_lines(str(out / "e" / "rejected.jsonl"))
    assert line["image_id"] == "bad.png"


def test_only_what_is_missing_is_encoded_again_and_the_bytes_are_the_same(embedded, begun, model, source, monkeypatch):
    encoded = []
    original = latents.encode
    monkeypatch.setattr(latents, "encode", lambda parts, *rest: encoded.append(parts) or original(parts, *rest))
    whole = parts(begun)
    gone = list(whole)[1]
    (begun / "e" / gone).unlink()
    for _ in range(2):
        assert embed(settings(model, source, begun, resume=True)) == embedded[0]
        assert parts(begun) == whole
    assert [[part.name for part in left] for left in encoded] == [[gone]]
    with pytest.raises(InputError, match="already exists"):
        embed(settings(model, source, begun))


def test_another_model_or_source_does_not_continue_a_folder(begun, model, source, tmp_path):
    for name, place in (("model", model), ("source", source)):
        shutil.copytree(place, tmp_path / name)
        path = tmp_path / "e" / "config.json"
        path.write_text(path.read_text().replace(str(place), str(tmp_path / name)))
    _, trained = tiny()
    torch.manual_seed(1)
    models.save(str(tmp_path / "model"), models.build(trained), trained)
    with pytest.raises(InputError, match="MODEL: it has changed"):
        embed(settings(tmp_path / "model", tmp_path / "source", begun, resume=True))
    models.save(str(tmp_path / "model"), *tiny())
    (tmp_path / "source" / "00.png").write_bytes((source / "01.png").read_bytes())
    with pytest.raises(InputError, match="SOURCE: it has changed"):
        embed(settings(tmp_path / "model", tmp_path / "source", begun, resume=True))


def test_the_nearest_pictures_are_found_and_shown(begun, model, source, tmp_path):
    report = begun / "e" / "report"
    embed(settings(model, source, begun, neighbours=2, resume=True))
    found = pq.read_table(report / "neighbours.parquet").to_pylist()
    rows = {(row["image_id"], row["rank"]): row["neighbour"] for row in found}
    assert len(rows) == 2 * (FACES + 1)
    assert (rows["07.png", 1], rows["twin.png", 1]) == ("twin.png", "07.png")
    page = (report / "index.html").read_text()
    assert_self_contained(page, tmp_path, images=1)
    assert found[0]["neighbour"] in page


def test_the_nearest_pictures_of_another_source_by_a_unet(source, tmp_path):
    models.save(str(tmp_path / "unet"), *tiny("unet"))
    asked = tmp_path / "asked"
    asked.mkdir()
    (asked / "who.png").write_bytes((source / "07.png").read_bytes())
    (asked / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"--queries: none of these images can be used, such as bad\.png"):
        embed(settings(tmp_path / "unet", source, tmp_path, neighbours=1, queries=(str(asked / "bad.png"),)))
    given = settings(tmp_path / "unet", source, tmp_path, neighbours=3, queries=(str(asked),), resume=True)
    embed(given)
    assert_of_network(vectors(tmp_path), source, tmp_path / "unet")
    rows = pq.read_table(tmp_path / "e" / "report" / "neighbours.parquet").to_pylist()
    assert [(row["image_id"], row["rank"]) for row in rows] == [("who.png", rank) for rank in (1, 2, 3)]
    assert {row["neighbour"] for row in rows[:2]} == {"07.png", "twin.png"}
    assert rows[1]["distance"] < rows[2]["distance"]


SMALL = """
import sys
from faceae.cli import run_job
from faceae.evaluation import latents

latents.PART_IMAGES = 32
run_job("embed", sys.argv[1:])
"""
"""The job, with small parts, so that there are some before and some after a kill."""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine takes several times as long
def test_a_killed_job_from_and_to_a_bucket_resumes_to_the_same_bytes(s3, tmp_path):
    """Large PNGs make it slow enough to be killed."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 384, 384, 3), np.uint8)
    files = [png(Image.fromarray(image), compress_level=0) for image in noise]
    archive = zipped({f"{number:05}.png": files[number % len(files)] for number in range(320)})
    storage.write("s3://faces/embed/faces.zip", archive)
    network, trained = tiny(size=64)
    models.save("s3://faces/embed/model", network, trained)
    flags = ["s3://faces/embed/model", "s3://faces/embed/faces.zip", "--run.storage", "s3://faces/embed", "--run.name"]

    def start(*more):
        command = [sys.executable, "-c", SMALL, *flags, *more]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipe)

    def written(name):
        names = storage.list_files(f"s3://faces/embed/{name}", missing_ok=True)
        return {each: storage.read(f"s3://faces/embed/{name}/{each}") for each in names if each.endswith(".parquet")}

    job = start("killed")
    kill_when(job, lambda: bool(written("killed")))
    before = len(written("killed"))
    outputs = []
    for name in ("killed", "whole"):
        again = start(name, "--run.resume", "--neighbours", "2")
        outputs.append(again.communicate()[0])
        assert again.returncode == 0, outputs
    assert 0 < before < len(written("whole"))
    assert f"resumed   {before} of " in outputs[0]
    assert written("killed") == written("whole")
