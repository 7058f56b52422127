"""Whole runs on a real Ray instance: what they write, and that they agree with each other."""

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import png
from PIL import Image
from runs import RECIPE, assert_same, figures, history, small

import faceae
from faceae import metrics, storage
from faceae.config.jobs import EvaluateData, EvaluateOutput, EvaluateSettings, ReplicaScale
from faceae.data.synthetic import portrait
from faceae.drivers.train import train
from faceae.errors import InputError, RunFailedError
from faceae.tasks import Inpaint


@pytest.fixture(scope="module")
def finished(ray_cluster, faces, tmp_path_factory):
    """A run of two epochs with one worker and two unusable images."""
    root = tmp_path_factory.mktemp("runs")
    mixed = root / "mixed"
    mixed.mkdir()
    for path in faces.rglob("*.png"):
        (mixed / path.name).write_bytes(path.read_bytes())
    (mixed / "bad.png").write_bytes(b"not an image")
    (mixed / "._face1.png").write_bytes(b"attributes")
    settings = small(mixed, root, "finished", data__max_rejected_fraction=0.02)
    return settings, train(settings), root / "finished"


def test_a_run_writes_all_its_files(finished):
    _settings, summary, folder = finished
    assert json.loads((folder / "config.json").read_text())["train"]["epochs"] == 2
    assert json.loads((folder / "summary.json").read_text()) == summary
    for record in history(folder):
        assert set(record) == {
            "epoch",
            "images",
            "seconds",
            "images_per_second",
            "data_wait_fraction",
            "time",
            "memory_bytes",
            "train_loss",
            "val",
        }
        assert set(record["val"]) == set(metrics.NAMES)
        assert record["images"] == summary["counts"]["train"]
        assert 0 <= record["data_wait_fraction"] <= 1
    counts = summary["counts"]
    assert counts["read"] == 98
    assert counts["rejected"] == 2
    assert counts["train"] + counts["val"] == 96
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [row["image_id"] for row in rejected] == ["._face1.png", "bad.png"]
    assert history(folder)[1]["train_loss"] < history(folder)[0]["train_loss"]
    assert {"black", "mean", "telea", "navier_stokes", "biharmonic", "pca"} == set(summary["baselines"])
    errors = {name: values["composite_mse"] for name, values in summary["baselines"].items()}
    assert errors[summary["best_baseline"]] == min(errors.values())
    assert summary["compared"] == {"images": counts["val"], "of": counts["val"], "val": summary["val"]}
    assert (folder / "tensorboard" / "events.out.tfevents.faceae").stat().st_size > 1000
    assert 0 < summary["seconds_to_first_step"] < summary["wall_seconds"]
    assert summary["val"] == history(folder)[summary["best_epoch"] - 1]["val"]


def test_the_saved_model_gives_the_reported_metrics(finished, ray_cluster):
    import torch

    from faceae.data.cache import decode
    from faceae.data.epoch_masks import draw_with_pixels
    from faceae.data.split import Split
    from faceae.data.validation import VALIDATION, validation_batches
    from faceae.training import engine

    settings, summary, folder = finished
    network = faceae.load(str(folder / "model"))
    draw = draw_with_pixels(VALIDATION, Inpaint(settings.mask, 32))
    val, _ = decode(Split(settings.data).val, 32, lambda images: None, draw)
    cpu = torch.device("cpu")
    sums = engine.evaluate(
        network, validation_batches(val, Inpaint(settings.mask, 32), 5), device=cpu, bf16=engine.in_bf16("auto", cpu)
    )
    assert sums.count == summary["counts"]["val"]
    assert sums.means() == pytest.approx(summary["val"], rel=1e-4)


def test_an_evaluation_of_the_validation_set_gives_the_reported_metrics(finished, ray_cluster, tmp_path):
    from faceae.drivers.evaluate import evaluate

    settings, summary, folder = finished
    data = EvaluateData(settings.data.source, subset="val", max_rejected_fraction=0.1)
    out = EvaluateOutput(storage=str(tmp_path), name="val")
    evaluated = evaluate(EvaluateSettings(str(folder / "model"), data, scale=ReplicaScale(gpu="off"), run=out))
    assert evaluated["counts"]["val"] == summary["counts"]["val"]
    assert evaluated["val"] == pytest.approx(summary["val"], rel=1e-4)
    for name, values in summary["baselines"].items():
        assert evaluated["baselines"][name] == pytest.approx(values, rel=1e-6)


def test_on_many_images_model_and_baselines_are_compared_on_the_same_sample(finished, ray_cluster, monkeypatch):
    import torch

    from faceae.data.cache import Blocks
    from faceae.data.dataset import load_dataset
    from faceae.data.split import Split
    from faceae.data.validation import validation_batches
    from faceae.evaluation import baselines, run_baselines
    from faceae.run_folder import RunFolder
    from faceae.training import engine

    settings, summary, folder = finished
    split = Split(settings.data)
    dataset = load_dataset(settings, split, None, RunFolder(settings))
    monkeypatch.setattr(run_baselines, "chosen", lambda entries, hidden: entries[:9])
    found = run_baselines.Baselines(dataset, split.val, 5).compare(str(folder / "model"), summary["val"])
    wanted = {entry.image_id for entry in split.val[:9]}
    rows = [
        np.array([row for row in usable if name[row] in wanted], np.int32)
        for usable, name in zip(dataset.val.usable, dataset.val.ids.to_pylist(), strict=True)
    ]
    sample = Blocks(dataset.val.refs, rows)
    assert found["compared"]["images"] == len(sample) < found["compared"]["of"] == summary["counts"]["val"]
    network = faceae.load(str(folder / "model"))
    own = engine.evaluate(
        network, validation_batches(sample, Inpaint(settings.mask, 32), 16), device=torch.device("cpu")
    )
    assert found["compared"]["val"] == pytest.approx(own.means(), rel=1e-5)
    for name, sums in baselines.measure(validation_batches(sample, Inpaint(settings.mask, 32), 16)).items():
        assert found["baselines"][name] == pytest.approx(sums.means(), rel=1e-5)


def test_the_report_is_complete(finished):
    _, summary, folder = finished
    page = (folder / "report" / "index.html").read_text()
    assert f"times that of the best baseline</b>,\n{summary['best_baseline']}" in page
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert "https://" not in page
    assert f"{summary['val']['hole_mse']:.4f}" in page
    sheet = Image.open(folder / "report" / "faces.png")
    assert sheet.height == 4 * 32
    assert sheet.width > 8 * 32
    assert Image.open(folder / "report" / "holes.png").height == 4 * 192
    assert Image.open(folder / "report" / "curves.png").width > 1000


def test_a_taken_name_is_refused_and_resuming_gives_the_same_result(finished, tmp_path):
    """One epoch and then another give the same as two: runs with one seed agree, and resuming changes nothing."""
    settings, _, folder = finished
    with pytest.raises(InputError, match=r"--run\.resume"):
        train(settings)
    source = settings.data.source[0]
    options = {"data__max_rejected_fraction": 0.02}
    train(small(source, tmp_path, "parts", train__epochs=1, **options))
    train(small(source, tmp_path, "parts", run__resume=True, **options))
    assert_same(figures(tmp_path / "parts"), figures(folder))
    with pytest.raises(InputError, match=r"--optim\.lr 0\.5: the run parts was started with 0\.001"):
        train(small(source, tmp_path, "parts", optim__lr=0.5, run__resume=True, **options))


@pytest.fixture(scope="module")
def with_recipe(ray_cluster, faces, tmp_path_factory):
    """The results of a run of one worker with RECIPE."""
    root = tmp_path_factory.mktemp("recipe")
    assert train(small(faces, root, "run", **RECIPE))["workers"] == 1
    return figures(root / "run")


def test_two_workers_agree_with_one(faces, with_recipe, ray_cluster, tmp_path):
    """With RECIPE: the article's network cannot agree exactly, because its batch norm sees half batches."""
    assert train(small(faces, tmp_path, "two", scale__workers=2, **RECIPE))["workers"] == 2
    assert_same(figures(tmp_path / "two"), with_recipe, rel=1e-3)


def test_a_run_from_and_to_a_bucket_equals_one_from_and_to_folders(
    faces, with_recipe, s3, ray_cluster, monkeypatch, capfd, caplog
):
    secrets = {s3["AWS_SECRET_ACCESS_KEY"], (Path.home() / ".ray" / "auth_token").read_text()}
    for number, name in enumerate(("WANDB_API_KEY", "HF_TOKEN", "AWS_SESSION_TOKEN_OF_ANOTHER")):
        monkeypatch.setenv(name, f"hidden-{number}")
        secrets.add(f"hidden-{number}")
    for path in faces.rglob("*.png"):
        storage.write(f"s3://faces/train/{path.relative_to(faces)}", path.read_bytes())
    summary = train(small("s3://faces/train", "s3://faces/runs", "remote", **RECIPE))
    assert_same(figures("s3://faces/runs/remote"), with_recipe)
    assert storage.read_json("s3://faces/runs/remote/summary.json") == summary
    assert faceae.load("s3://faces/runs/remote/model").settings.data.source == ("s3://faces/train",)
    assert storage.read("s3://faces/runs/remote/report/index.html").startswith(b"<!doctype html>")
    printed = capfd.readouterr()
    written = {
        name: storage.read(f"s3://faces/runs/remote/{name}") for name in storage.list_files("s3://faces/runs/remote")
    }
    written |= {"stdout": printed.out.encode(), "stderr": printed.err.encode(), "log": caplog.text.encode()}
    assert printed.out
    assert {"config.json", "metrics.jsonl", "summary.json", "report/index.html", "model/config.json"} <= written.keys()
    for secret in secrets:
        assert not [name for name, content in written.items() if secret.encode() in content]


def test_too_many_bad_images_stop_a_run_before_training_and_free_its_name(ray_cluster, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"{number}.png").write_bytes(png(Image.fromarray(portrait(number, 32))) if number > 1 else b"")
    with pytest.raises(InputError, match=r"2 of 20 images cannot be used.*the file is empty"):
        train(small(source, tmp_path, "bad"))
    assert not (tmp_path / "bad" / "metrics.jsonl").exists()
    assert len((tmp_path / "bad" / "rejected.jsonl").read_text().splitlines()) == 2
    train(small(source, tmp_path, "bad", data__max_rejected_fraction=0.1, train__epochs=1))


def test_a_diverging_run_fails_with_its_reason_and_is_not_retried(ray_cluster, faces, tmp_path):
    with pytest.raises(RunFailedError, match=r"loss is .*--optim\.lr"):
        train(small(faces, tmp_path, "diverging", optim__name="sgd", optim__lr=1e30))


@pytest.mark.slow
def test_the_time_budget_is_kept(ray_cluster, tmp_path):
    settings = small("synthetic:200", tmp_path, "budget", train__epochs=100_000, train__max_minutes=0.05)
    summary = train(settings)
    assert 1 <= summary["epochs"] < 100_000
    spent = json.loads(next((tmp_path / "budget" / "checkpoints").glob("*/progress.json")).read_text())
    assert spent["seconds"] < 60  # the budget is 3 s, and all epochs would take hours
