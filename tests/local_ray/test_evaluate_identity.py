"""Evaluations that compare the faces before and after; with dlib, see `make identity`."""

import pyarrow.parquet as pq
import pytest
import torch
from runs import small

from faceae import models
from faceae.config.jobs import EvaluateData, EvaluateOutput, EvaluateSettings, MaskOverride, ReplicaScale
from faceae.drivers.evaluate import evaluate
from faceae.evaluation.identity import DISTANCE

pytest.importorskip("dlib", reason="not installed; see make identity")

FACES = 6


@pytest.fixture(scope="module")
def model(faces, tmp_path_factory):
    """A model with random weights, of 128x128 pixels."""
    root = tmp_path_factory.mktemp("run")
    settings = small(faces, root, "run", data__image_size=128)
    torch.manual_seed(0)
    models.save(str(root / "model"), models.build(settings), settings)
    return str(root / "model")


@pytest.mark.parametrize("own_size", [False, True])
def test_each_face_has_its_distance(ray_cluster, model, shared, tmp_path, capsys, own_size):
    source = tmp_path / "faces"
    source.mkdir()
    for path in sorted((shared / "lfw128").iterdir())[:FACES]:
        (source / path.name).symlink_to(path)
    holes = MaskOverride(holes=("box:8",)) if own_size else MaskOverride(size=8)
    settings = EvaluateSettings(
        model,
        EvaluateData((str(source),)),
        holes,
        own_size=own_size,
        identity=True,
        scale=ReplicaScale(gpu="off"),
        run=EvaluateOutput(storage=str(tmp_path), name="e"),
    )
    summary = evaluate(settings)
    distances = pq.read_table(tmp_path / "e" / "images.parquet")[DISTANCE].to_numpy()
    assert len(distances) == FACES
    assert distances.min() >= 0  # the hole may lie beside the face
    assert distances.max() > 0
    assert summary["identity"]["faces"] == FACES
    assert summary["identity"]["mean"] == pytest.approx(distances.mean())
    words = f"restored faces: dlib's descriptors are less than 0.6 apart, on average {distances.mean():.2f}."
    assert f"of {FACES} {words}" in capsys.readouterr().out.replace("\n", " ")
    assert words in (tmp_path / "e" / "report" / "index.html").read_text().replace("&#39;", "'")
