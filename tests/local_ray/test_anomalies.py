"""`faceae evaluate --anomaly`: images with what does not belong on a face are found, and where it is."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from faceae import config, models, tasks
from faceae.config import Data, Model, Optim, Settings, Train
from faceae.config.jobs import EvaluateData, EvaluateOutput, EvaluateSettings, MaskOverride
from faceae.data import synthetic
from faceae.data.batch import Batch
from faceae.drivers.evaluate import evaluate
from faceae.errors import InputError
from faceae.evaluation.anomaly import HEAT_SIDE
from faceae.training.engine import train_one_epoch
from faceae.training.state import TrainState

SIZE = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that has seen patches on a few portraits."""
    chosen = config.validate(
        Settings(
            task=("repair",),
            data=Data(source=("synthetic:64",), image_size=SIZE),
            model=Model(name="unet", width=8, levels=2),
            optim=Optim(name="muon", lr=0.01),
            train=Train(batch_size=32),
        )
    )
    task, pixels = tasks.create(chosen), np.stack([synthetic.portrait(number, SIZE) for number in range(64)])
    torch.manual_seed(0)
    state = TrainState(models.build(chosen), chosen)
    names = [str(number) for number in range(64)]
    for epoch in range(1, 200):
        batches = [Batch(pixels, task.draw(names, 0, epoch), 64, damage=task.damage)]
        train_one_epoch(state.network, batches, state, device=torch.device("cpu"))
    uri = str(tmp_path_factory.mktemp("repair") / "model")
    models.save(uri, state.network, chosen)
    return uri


def settings(model, source, root, **changed):
    return EvaluateSettings(
        model,
        EvaluateData((str(source),), max_rejected_fraction=0.1),
        anomaly=True,
        run=EvaluateOutput(storage=str(root), name="found"),
        **changed,
    )


def test_images_with_a_patch_have_the_highest_scores_and_heat_there(ray_cluster, model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for number in range(24):
        pixels = synthetic.portrait(number, SIZE).copy()
        if number < 4:
            pixels[8:16, 4:14] = (10, 240, 30)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number:02}.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    summary = evaluate(settings(model, tmp_path / "in", tmp_path))
    assert summary["counts"] == {"read": 25, "rejected": 1, "val": 24}
    assert {row["image_id"] for row in summary["highest"][:4]} == {f"{number:02}.png" for number in range(4)}
    table = pq.read_table(tmp_path / "found" / "images.parquet").to_pylist()
    assert [row["image_id"] for row in table] == [f"{number:02}.png" for number in range(24)]
    heat = np.array(table[0]["heat"], np.uint8).reshape(HEAT_SIDE, HEAT_SIDE)
    assert heat[9:15, 5:13].mean() > 3 * heat[20:, 18:].mean()
    assert table[0]["score"] * 255 >= heat.max() - 1
    sheet = Image.open(tmp_path / "found" / "report" / "most.png")
    assert sheet.height == 3 * SIZE
    page = (tmp_path / "found" / "report" / "index.html").read_text()
    assert "The most anomalous" in page
    assert "00.png" in capsys.readouterr().out
    again = settings(model, tmp_path / "in", tmp_path)
    again = dataclasses.replace(again, run=dataclasses.replace(again.run, resume=True))
    assert evaluate(again) == summary
    assert "is finished" in capsys.readouterr().out


def test_what_cannot_say_what_is_wrong_is_refused(ray_cluster, model, tmp_path):
    chosen = Settings(data=Data(image_size=SIZE), model=Model(name="article", latent_dim=8))
    models.save(str(tmp_path / "model"), models.build(chosen), chosen)
    with pytest.raises(InputError, match=r"^--anomaly: this model was trained for --task inpaint .*--preset repair"):
        evaluate(settings(str(tmp_path / "model"), "synthetic:4", tmp_path))
    assert not (tmp_path / "found").exists() or not (tmp_path / "found" / "config.json").exists()
    with pytest.raises(InputError, match=r"^--anomaly: nothing is hidden from the model; give no --mask flag"):
        evaluate(settings(model, "synthetic:4", tmp_path, mask=MaskOverride(size=8)))
