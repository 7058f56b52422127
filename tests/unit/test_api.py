"""The jobs from Python: the settings that they get, and errors that name the flag. For a whole run, see test_train."""

import dataclasses

import pytest

import faceae
from faceae import api
from faceae.config import Data, Mask, Settings
from faceae.errors import InputError


@pytest.fixture
def driven(monkeypatch):
    """What the drivers are called with; they return what would be their summary."""
    calls = []
    monkeypatch.setattr(api, "_drive", lambda job, settings: calls.append((job, settings)) or {"job": job})
    return calls


def test_groups_change_single_fields_of_a_preset(driven, tmp_path):
    result = faceae.train(
        "restore", data={"source": "faces"}, mask={"kind": ("box", "half")}, run={"name": "x", "storage": str(tmp_path)}
    )
    ((job, settings),) = driven
    assert result == faceae.Result(f"{tmp_path}/x", {"job": "train"})
    assert (job, settings.preset, settings.model.name, settings.train.max_minutes) == ("train", "restore", "unet", 20)
    assert settings.data == dataclasses.replace(Data(), source=("faces",))
    assert settings.mask == Mask(kind=("box", "half"))


def test_a_group_may_be_its_dataclass_and_a_preset_may_be_settings(driven):
    faceae.train(Settings(mask=Mask(size=12)), data=Data(source=("a", "b"), image_size=64))
    ((_, settings),) = driven
    assert (settings.mask.size, settings.data.source, settings.data.image_size) == (12, ("a", "b"), 64)
    assert settings.run.name.startswith("article-")


def test_a_grid_has_nested_groups(driven):
    faceae.tune("restore", grid={"optim": {"lr": [0.01, 0.001]}}, data={"source": "faces"})
    ((job, settings),) = driven
    assert (job, settings.grid.optim.lr, settings.optim.name) == ("tune", (0.01, 0.001), "muon")


def test_jobs_with_a_model(driven, tmp_path):
    faceae.evaluate("m", "one", "two", own_size=True, data={"limit": 5})
    faceae.embed("m", "one", neighbours=3)
    faceae.prepare(data={"source": "one"})
    result = faceae.reconstruct("m", "one", str(tmp_path), masks="masks")
    faceae.serve("m", port=9000, limit={"megapixels": 5})
    settings = dict(driven)
    assert (settings["serve"].model, settings["serve"].port, settings["serve"].limit.megapixels) == ("m", 9000, 5)
    assert (settings["evaluate"].data.source, settings["evaluate"].data.limit) == (("one", "two"), 5)
    assert (settings["evaluate"].model, settings["evaluate"].own_size) == ("m", True)
    assert (settings["embed"].neighbours, settings["embed"].data.source) == (3, ("one",))
    assert settings["prepare"].data.source == ("one",)
    assert (settings["reconstruct"].masks, result.folder) == ("masks", str(tmp_path))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: faceae.train("nonsense"), "there is no such preset"),
        (lambda: faceae.train(optim={"rate": 1}), r"--optim\.rate"),
        (lambda: faceae.train(optimizer={"lr": 1}), "--optimizer"),
        (lambda: faceae.train(optim={"lr": -1}), r"--optim\.lr -1"),
        (lambda: faceae.train(optim=0.1), "--optim 0.1"),
        (lambda: faceae.evaluate("m"), "SOURCE: no source"),
        (lambda: faceae.grid("nowhere"), "nowhere: no grid is there"),
    ],
)
def test_what_is_wrong_is_said_as_on_the_command_line(driven, call, words):
    with pytest.raises(InputError, match=words):
        call()
    assert not driven


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'faceae' has no attribute 'trian'"):
        faceae.trian  # noqa: B018
    assert set(faceae.__all__) <= {*dir(faceae), *dir(api)}
