"""Whole runs of tasks that hide nothing: trained, evaluated, resumed, and on two workers."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pictures import zipped
from PIL import Image
from processes import kill_when
from runs import ROOT, assert_same, figures, history

import faceae
from faceae import config, models, storage
from faceae.config import Data, Mask, Model, Run, Scale, Settings, Train
from faceae.config.jobs import EvaluateData, EvaluateOutput, EvaluateSettings, MaskOverride, NoiseOverride
from faceae.config.restore import ReconstructSettings
from faceae.data.synthetic import portrait
from faceae.drivers.evaluate import evaluate
from faceae.drivers.reconstruct import reconstruct
from faceae.drivers.train import train
from faceae.errors import InputError

SEVERAL = "inpaint+denoise+colorize"
LOSS = {"repair": "mse", "reconstruct": "mse"}


def settings(task, faces, root, name, workers=1, epochs=2, **changed):
    model = Model(name="article" if task == "reconstruct" else "unet", width=8, levels=2, latent_dim=16)
    return Settings(
        task=tuple(task.split("+")),
        data=Data(source=(str(faces),), image_size=32, val_fraction=0.2),
        model=model,
        train=Train(epochs=epochs, batch_size=16, augment="mirror", loss=LOSS.get(task, "psnr")),
        scale=Scale(workers=workers),
        run=Run(storage=str(root), name=name),
        **changed,
    )


def evaluation(folder, source, root, name, **changed):
    return EvaluateSettings(
        str(folder / "model"),
        EvaluateData((str(source),), subset="val"),
        run=EvaluateOutput(storage=str(root), name=name),
        **changed,
    )


@pytest.mark.parametrize(("task", "baselines"), [
    pytest.param("denoise", {"noisy", "nonlocal_means"}, marks=pytest.mark.slow),
    pytest.param("colorize", {"grey", "pca"}, marks=pytest.mark.slow),
    pytest.param("repair", {"damaged"}, marks=pytest.mark.slow),
    pytest.param("upscale", {"bicubic"}, marks=pytest.mark.slow),
    pytest.param("reconstruct", {"mean", "pca"}, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_task_is_trained_and_evaluated(ray_cluster, faces, tmp_path, task, baselines, capsys):
    summary = train(settings(task, faces, tmp_path, "run"))
    assert summary["task"] == task
    assert set(summary["baselines"]) == baselines
    first, second = (record["train_loss"] for record in history(tmp_path / "run"))
    assert second < first
    assert summary["val"]["mse"] == pytest.approx(summary["val"]["composite_mse"])
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "inside the hole" not in page
    assert "with a hole" not in page
    measured = evaluate(evaluation(tmp_path / "run", faces, tmp_path, "e"))
    assert measured["task"] == task
    assert set(measured["baselines"]) == baselines
    for name, value in summary["val"].items():
        assert measured["val"][name] == pytest.approx(value, rel=1e-4)
    for name in baselines:
        assert measured["baselines"][name]["mse"] == pytest.approx(summary["baselines"][name]["mse"], rel=1e-4)
    assert "hole" not in capsys.readouterr().out
    table = pq.read_table(tmp_path / "e" / "images.parquet")
    assert set(table["kind"].to_pylist()) == {task}
    assert set(table["hole_pixels"].to_pylist()) == {32 * 32}
    if task == "denoise":
        less = evaluate(evaluation(tmp_path / "run", faces, tmp_path, "less", noise=NoiseOverride(5)))
        assert less["baselines"]["noisy"]["mse"] * 255**2 == pytest.approx(25, rel=0.1)
        assert_flags_of_other_tasks_are_refused(tmp_path / "run", faces, tmp_path)


@pytest.mark.slow
def test_one_network_learns_several_tasks_and_each_is_measured(ray_cluster, faces, tmp_path):
    summary = train(settings(SEVERAL, faces, tmp_path, "run", mask=Mask(size=12)))
    assert summary["task"] == SEVERAL
    assert set(summary["baselines"]) == {"damaged"}
    measured = evaluate(evaluation(tmp_path / "run", faces, tmp_path, "e"))
    for name, value in summary["val"].items():
        assert measured["val"][name] == pytest.approx(value, rel=1e-4)
    assert set(measured["by_kind"]) == {"inpaint", "denoise", "colorize"}
    table = pq.read_table(tmp_path / "e" / "images.parquet").to_pylist()
    assert {row["hole_pixels"] for row in table if row["kind"] == "inpaint"} == {12 * 12}
    assert {row["hole_pixels"] for row in table if row["kind"] != "inpaint"} == {32 * 32}
    for task, baseline in (("inpaint", "telea"), ("denoise", "noisy")):
        alone = evaluate(evaluation(tmp_path / "run", faces, tmp_path, task, task=task))
        assert alone["task"] == task
        assert baseline in alone["baselines"]
    with pytest.raises(InputError, match=r"MODEL this model was trained for --task inpaint .*, not for upscale"):
        evaluate(evaluation(tmp_path / "run", faces, tmp_path, "wrong", task="upscale"))


def assert_flags_of_other_tasks_are_refused(folder, faces, root):
    with pytest.raises(InputError, match="--mask: the model was trained for --task denoise; leave it out"):
        evaluate(evaluation(folder, faces, root, "wrong", mask=MaskOverride(size=4)))
    with pytest.raises(InputError, match="trained for --task denoise and fills no holes"):
        evaluate(evaluation(folder, faces, root, "own", own_size=True))


@pytest.mark.slow
def test_pictures_are_redone_in_bulk(ray_cluster, tmp_path):
    torch.manual_seed(0)
    chosen = settings("upscale", "unused", tmp_path, "run")
    models.save(str(tmp_path / "model"), models.build(chosen), chosen)
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(32, 32), (50, 20), (70, 41)]):
        Image.fromarray(portrait(number, 64)).resize(size).save(tmp_path / "in" / f"{number}.png")
    given = [str(tmp_path / name) for name in ("model", "in", "out")]
    summary = reconstruct(ReconstructSettings(*given))
    assert summary["counts"]["restored"] == 3
    model = faceae.load(given[0])
    for number, size in enumerate([(128, 128), (200, 80), (280, 164)]):
        made = Image.open(tmp_path / "out" / f"{number}.png")
        assert made.size == size
        expected = np.asarray(model(str(tmp_path / "in" / f"{number}.png"))).astype(int)
        assert np.abs(np.asarray(made) - expected).max() <= 1
    chosen = settings("colorize", "unused", tmp_path, "run")
    models.save(str(tmp_path / "model"), models.build(chosen), chosen)
    Image.fromarray(portrait(0, 64)).convert("L").save(tmp_path / "in" / "0.png")
    reconstruct(ReconstructSettings(*given[:2], str(tmp_path / "coloured")))
    assert Image.open(tmp_path / "coloured" / "0.png").mode == "RGB"
    page = (tmp_path / "out" / "before-after.html").read_text()
    assert "the middle of one, enlarged" in page
    assert 'alt="mask"' not in page
    with pytest.raises(InputError, match="MODEL this model was trained for --task colorize and fills no holes"):
        reconstruct(ReconstructSettings(*given[:2], str(tmp_path / "other"), masks=given[1]))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["denoise", "colorize", SEVERAL])
def test_two_workers_and_a_resumed_run_agree_with_one(ray_cluster, faces, tmp_path, task):
    train(settings(task, faces, tmp_path, "one"))
    train(settings(task, faces, tmp_path, "two", workers=2))
    train(settings(task, faces, tmp_path, "resumed", epochs=1))
    longer = settings(task, faces, tmp_path, "resumed")
    train(dataclasses.replace(longer, run=dataclasses.replace(longer.run, resume=True)))
    assert_same(figures(tmp_path / "one"), figures(tmp_path / "resumed"))
    assert_same(figures(tmp_path / "one"), figures(tmp_path / "two"), rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("task", ["denoise", "colorize", "upscale", "repair", "reconstruct", SEVERAL])
def test_a_killed_run_from_and_to_a_bucket_resumes_to_the_same_result(s3, faces, task):
    root = f"s3://faces/tasks/{task}"
    content = {path.name: path.read_bytes() for path in faces.rglob("*.png")}
    storage.write(f"{root}/faces.zip", zipped(content))

    def start(name, *more):
        flags = config.flags(settings(task, f"{root}/faces.zip", root, name, epochs=40))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        command = [sys.executable, "-m", "faceae", "train", *flags, *more]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipe)

    def epochs():
        lines = f"{root}/killed/metrics.jsonl"
        return len(storage.read_lines(lines)) if storage.exists(lines) else 0

    job = start("killed")
    kill_when(job, lambda: epochs() >= 2)
    assert epochs() < 40
    for name in ("killed", "whole"):
        again = start(name, "--run.resume")
        output = again.communicate()[0]
        assert again.returncode == 0, output
    assert figures(f"{root}/killed") == figures(f"{root}/whole")
