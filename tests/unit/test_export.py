"""A model exported to ONNX gives the same output as in PyTorch."""

import dataclasses
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import tiny
from pictures import SIZE

import faceae
from faceae import models, storage
from faceae.errors import InputError
from faceae.models import export as module


@pytest.mark.parametrize(("name", "start"), [("article", "mean"), ("unet", "mean"), ("unet", "membrane")])
def test_onnxruntime_agrees_with_pytorch(name, start, tmp_path, capfd):
    _, settings = tiny(name)
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, start=start))
    network = models.build(settings)
    for parameter in network.parameters():  # the blocks of an untrained unet change nothing
        torch.nn.init.normal_(parameter, std=0.1)
    models.save(str(tmp_path), network, settings)
    with warnings.catch_warnings(record=True) as caught:
        uri = faceae.export(str(tmp_path))
    assert uri == f"{tmp_path}/model.onnx"
    assert (capfd.readouterr(), caught) == (("", ""), [])
    session = onnxruntime.InferenceSession(uri, providers=["CPUExecutionProvider"])
    model = faceae.load(str(tmp_path))
    torch.manual_seed(1)
    for batch in (1, 3):
        mask = torch.zeros(batch, 1, SIZE, SIZE)
        for number in range(batch):
            mask[number, :, 4 + number : 20, 7 : 12 + 9 * number] = 1
        given = torch.rand(batch, 3, SIZE, SIZE) * (1 - mask)
        with torch.inference_mode():
            expected = model(given, mask).numpy()
        (restored,) = session.run(["restored"], {"given": given.numpy(), "mask": mask.numpy()})
        assert restored.shape == (batch, 3, SIZE, SIZE)
        assert np.abs(restored - expected).max() < 1e-4


@pytest.mark.parametrize("task", [("colorize",), ("repair",), ("inpaint", "denoise", "colorize")], ids="+".join)
def test_models_of_other_tasks_agree_with_pytorch(task, tmp_path):
    settings = dataclasses.replace(tiny("unet")[1], task=task)
    network = models.build(settings)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    models.save(str(tmp_path), network, settings)
    session = onnxruntime.InferenceSession(faceae.export(str(tmp_path)), providers=["CPUExecutionProvider"])
    given, mask = torch.rand(3, 3, SIZE, SIZE), torch.ones(3, 1, SIZE, SIZE)
    given[1] = given[1, :1]  # grey
    mask[2, :, :20] = 0
    expected = faceae.load(str(tmp_path))(given, mask).detach().numpy()
    (restored,) = session.run(["restored"], {"given": given.numpy(), "mask": mask.numpy()})
    assert np.abs(restored - expected).max() < 1e-4


def test_the_file_describes_its_inputs_and_outputs(tmp_path):
    models.save(str(tmp_path / "model"), *tiny())
    uri = faceae.export(str(tmp_path / "model"), destination=str(tmp_path / "face.onnx"))
    assert storage.list_files(str(tmp_path / "model")) == ["config.json", "model.safetensors"]
    proto = onnx.load(uri)
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert about["image_size"] == "32"
    assert about["given"] == proto.graph.input[0].doc_string
    assert about["given"] == "(batch, 3, 32, 32) float32 RGB in [0, 1], 0 inside the hole"
    assert [value.name for value in (*proto.graph.input, *proto.graph.output)] == ["given", "mask", "restored"]


def test_what_cannot_be_exported_is_an_error_with_its_reason(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no model is there"):
        faceae.export(str(tmp_path))
    with pytest.raises(InputError, match="torchscript: a model can be exported as onnx only"):
        faceae.export(str(tmp_path), "torchscript")
    find = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(InputError, match=r"needs the package onnxscript; .* pip install 'faceae\[onnx\]'"):
        faceae.export(str(tmp_path))
