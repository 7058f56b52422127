"""Searches and populations on a real Ray instance."""

import dataclasses
import json
import shutil

import pytest
from runs import small

import faceae
from faceae import storage
from faceae.config.grid import Asha, Grid, GridSettings, Optims, Tune
from faceae.drivers.tune import tune


def searching(faces, root, name, chosen: Tune, rates=("1e-4:1e-2:log",), **changes) -> GridSettings:
    base = small(faces, root, name, **changes)
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return GridSettings(**fields, grid=Grid(optim=Optims(lr=rates)), asha=Asha(grace_epochs=1), tune=chosen)


def resumed(settings):
    return dataclasses.replace(settings, run=dataclasses.replace(settings.run, resume=True))


pytestmark = pytest.mark.slow


def test_a_search_that_lost_its_last_trials_proposes_the_same_again(ray_cluster, faces, tmp_path):
    chosen = Tune(search="optuna", samples=5, scheduler="median", concurrent=1)
    settings = searching(faces, tmp_path, "search", chosen, train__epochs=2)
    result = tune(settings)
    folder = tmp_path / "search"
    rows = sorted(result["trials"], key=lambda row: row["trial"])
    assert [row["trial"][:2] for row in rows] == ["1-", "2-", "3-", "4-", "5-"]
    assert {row["state"] for row in rows} <= {"finished", "pruned"}
    assert result["cost"]["full_grid_trial_epochs"] == 10
    table = faceae.grid(str(folder)).table()
    assert len(table) == 5
    assert table["optim.lr"].between(1e-4, 1e-2).all()

    for row in rows[3:]:
        shutil.rmtree(folder / "trials" / row["trial"])
    saved = json.loads((folder / "grid.json").read_text())
    saved["trials"] = [row for row in saved["trials"] if row not in rows[3:]]
    (folder / "grid.json").write_text(json.dumps(saved))
    again = tune(resumed(settings))
    assert [row["settings"] for row in again["trials"]] == [row["settings"] for row in result["trials"]]
    for row, before in zip(again["trials"], result["trials"], strict=True):
        assert (row["trial"], row["state"]) == (before["trial"], before["state"])
        assert row["val"] == pytest.approx(before["val"], rel=1e-3)


def test_a_population_trains_as_many_epochs_as_a_grid_and_its_best_has_the_weights_of_others(
    ray_cluster, faces, tmp_path
):
    chosen = Tune(search="random", samples=4, scheduler="pbt", concurrent=2)
    result = tune(searching(faces, tmp_path, "population", chosen, rates=("1e-9:1e-2:log",), train__epochs=3))
    rows = result["trials"]
    states = [row["state"] for row in rows]
    assert states.count("finished") == 4
    assert states.count("pruned") == len(rows) - 4 >= 1
    cost = result["cost"]
    assert (cost["trial_epochs"], cost["full_grid_trial_epochs"], cost["saved_trial_epochs"]) == (12, 12, 0)
    copies = [row for row in rows if row.get("parent")]
    assert len(copies) == states.count("pruned")
    for row in copies:
        (parent,) = [each for each in rows if each["trial"] == row["parent"]]
        first, same = (
            storage.read_lines(str(tmp_path / "population" / "trials" / name / "metrics.jsonl"))
            for name in (row["trial"], parent["trial"])
        )
        shared = row["inherited_epochs"]
        assert first[:shared] == same[:shared]
        assert row["settings"]["optim.lr"] == pytest.approx(parent["settings"]["optim.lr"], rel=0.3)
        assert row["settings"] != parent["settings"]
    best = rows[0]
    assert faceae.load(str(tmp_path / "population" / "model")).settings.optim.lr == best["settings"]["optim.lr"]
