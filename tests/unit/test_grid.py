"""The points of a grid, the ranking of its trials, and the tables that show them."""

import csv
import dataclasses
import io
import json

import pytest
from rich.console import Console

from faceae import cli
from faceae.cluster import placement
from faceae.config import Scale, Settings, presets
from faceae.config import points as config_points
from faceae.config.article import ARTICLE
from faceae.config.grid import GridSettings
from faceae.console import clock
from faceae.errors import InputError
from faceae.metrics import NAMES
from faceae.run_folder import RunFolder
from faceae.tuning import trials
from faceae.tuning import view as grid_view
from faceae.tuning.trials import Trial


def parse(*flags: str) -> GridSettings:
    return cli.parse(flags, GridSettings)


def points(*flags: str):
    return config_points.known(parse(*flags))


def test_lists_of_any_fields_are_multiplied():
    found = points(
        *["--preset", "article", "--grid.optim.name", "adam", "sgd", "--grid.optim.lr", "0.1", "0.01", "0.001"],
        *["--grid.train.batch-size", "32", "64", "--train.epochs", "7"],
    )
    assert len(found) == 12
    assert len({point.name for point in found}) == 12
    assert found[0].name == "01-adam-0.1-32"
    assert found[0].values == {"optim.name": "adam", "optim.lr": 0.1, "train.batch_size": 32}
    last = found[-1].settings
    assert (last.optim.name, last.optim.lr, last.train.batch_size, last.train.epochs) == ("sgd", 0.001, 64, 7)
    assert type(last) is Settings


def test_the_article_grid_has_the_settings_that_the_article_reports():
    found = points("--preset", "article-grid")
    tried = [(s.optim.name, s.optim.lr, s.train.batch_size, s.train.loss) for s in (point.settings for point in found)]
    assert len(tried) == 6
    assert set(tried) == {(line.optimizer, line.lr, line.batch_size, line.loss) for line in ARTICLE}
    assert all(point.settings.train.epochs == 15 for point in found)


def test_points_and_lists_give_every_combination_once():
    found = points("--preset", "article-grid", "--grid.train.seed", "0", "1", "1")
    assert len(found) == 12
    assert {point.settings.train.seed for point in found} == {0, 1}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--preset", "article"], "nothing to compare"),
        (["--preset", "article-grid", "--grid.optim.lr", "1"], "--grid.optim.lr: --grid.points sets optim.lr too"),
        (["--preset", "article", "--grid.points", "optim.lr"], "'optim.lr' is not field=value"),
        (["--preset", "article", "--grid.points", "mask.size=3"], "'mask.size=3' is not field=value"),
        (["--preset", "article", "--grid.points", "train.best-by=mse"], "'train.best-by=mse' is not field=value"),
        (["--preset", "article", "--grid.points", "optim.lr=fast"], "--optim.lr 'fast'"),
        (["--preset", "article", "--grid.optim.lr", "-1"], "--grid.optim.lr"),
        (["--preset", "article", "--grid.data.limit", "10"], "--grid.data.limit"),
        (["--asha.reduction-factor", "1"], "--asha.reduction-factor 1"),
        (["--tune.concurrent", "0"], "--tune.concurrent"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_a_wrong_grid_gives_a_one_line_error_that_names_the_flag(flags, words):
    with pytest.raises(InputError) as error:
        points(*flags)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_grid_may_start_from_the_preset_of_a_run_but_not_the_other_way_round():
    assert presets.find("article", GridSettings).train.epochs == 15
    with pytest.raises(InputError, match="choose from demo, article"):
        presets.find("article-grid", Settings)


@pytest.mark.parametrize(
    ("share", "workers", "cpus", "gpus", "expected"),
    [(0.25, None, 16, 1, 4), (1.0, None, 16, 4, 4), (1.0, 2, 16, 4, 2), (0.25, None, 4, 1, 2), (0.5, 1, 64, 2, 4)],
)
def test_small_trials_share_a_gpu(monkeypatch, share, workers, cpus, gpus, expected):
    """Only the arithmetic, since the machines that run the tests have no GPU."""
    monkeypatch.setattr(placement, "resources", lambda: {"CPU": float(cpus), "GPU": float(gpus)})
    placed = placement.place_trials(Scale(workers=workers, gpus_per_worker=share), "auto", 20)
    assert (placed.concurrent, placed.gpu, placed.workers) == (expected, share, workers or 1)


def record(epoch: int, mse: float) -> dict:
    return {
        "epoch": epoch,
        "seconds": 2.0,
        "images_per_second": 5.0,
        "train_loss": mse,
        "val": dict.fromkeys(NAMES, mse),
    }


@pytest.fixture
def some_trials(tmp_path) -> list[Trial]:
    """A pending, a running, a finished, a pruned and a failed trial, in that order."""
    settings = parse("--preset", "article", "--train.epochs", "3", "--grid.optim.lr", "0.5", "0.4", "0.3", "0.2", "0.1")
    folder = RunFolder(dataclasses.replace(settings, run=dataclasses.replace(settings.run, storage=str(tmp_path))))
    opened = trials.open_trials(config_points.known(settings), folder)
    for trial, state, values in zip(
        opened,
        ("pending", "running", "finished", "pruned", "failed"),
        ([], [0.3], [0.5, 0.1, 0.2], [0.4], [0.01]),
        strict=True,
    ):
        trial.state = state
        trial.history = [record(epoch, value) for epoch, value in enumerate(values, 1)]
    opened[4].reason = "the training loss is nan"
    return opened


def test_trials_are_ranked_by_their_best_epoch_and_failed_ones_come_last(some_trials):
    rows = trials.rows(some_trials)
    assert [row["state"] for row in rows] == ["finished", "running", "pruned", "pending", "failed"]
    assert [row["rank"] for row in rows] == [1, 2, 3, None, 5]
    assert rows[0]["best_epoch"] == 2
    assert rows[0]["val"]["mse"] == 0.1
    assert json.loads(json.dumps(rows)) == rows


def test_the_table_has_a_column_for_each_setting_and_metric(some_trials):
    rows = list(csv.DictReader(io.StringIO(trials.table(some_trials).decode())))
    assert [row["optim.lr"] for row in rows] == ["0.3", "0.4", "0.2", "0.5", "0.1"]
    assert float(rows[0]["hole_mse"]) == 0.1
    assert rows[3]["mse"] == ""
    assert rows[4]["reason"] == "the training loss is nan"


def test_the_table_has_the_metrics_that_only_some_trials_have(some_trials):
    some_trials[1].history[0]["val"]["kl_nats"] = 5.0  # a variational autoencoder among others; not the best
    rows = list(csv.DictReader(io.StringIO(trials.table(some_trials).decode())))
    assert [row["kl_nats"] for row in rows] == ["", "5.0", "", "", ""]


def test_what_stopping_early_saved_is_unknown_where_the_time_ended_a_trial(some_trials):
    effort = {"trial_epochs": 6, "full_grid_trial_epochs": 15, "saved_trial_epochs": 2}
    assert trials.effort(some_trials) == effort
    cost = {"trials_started": 4, "trials_pruned": 1, "start_up_seconds": 1, "decode_seconds": 1, "decoded_images": 100}
    cost |= {"sessions": 1, "training_seconds": 9, "wall_seconds": 12, "concurrent": 2}
    assert (
        dict(grid_view.costs(cost | effort))["grid"]
        == "15 trial-epochs in full, 6 trained; stopping early saved 2 (13%)"
    )
    del some_trials[2].history[-1]
    effort = trials.effort(some_trials)
    assert effort == {"trial_epochs": 5, "full_grid_trial_epochs": None, "saved_trial_epochs": None}
    assert dict(grid_view.costs(cost | effort))["grid"] == "5 trial-epochs trained; 1 of 4 trials stopped early"


def test_a_grid_of_trials_with_little_time_says_how_much_is_left(some_trials):
    train = dataclasses.replace(some_trials[0].folder.settings.train, epochs=1000, max_minutes=2)
    for trial in some_trials:
        trial.folder.settings = dataclasses.replace(trial.folder.settings, train=train)
    view = grid_view.GridView(some_trials, 100, train, concurrent=2, unknown=lambda: 1)
    with grid_view.out.capture() as printed:
        view.epoch(some_trials[1])
    assert "epoch 1  loss" in printed.get()
    most = clock((120 + 118 + 120 + 120) / 2)  # pending, running, to come; and at worst one of 120 is the last
    assert f"; 6 trial-epochs done, at most {most} to go" in printed.get().replace("\n", " ")


@pytest.mark.parametrize("height", [7, 40])
def test_the_live_table_fits_the_terminal_and_shows_running_trials(some_trials, monkeypatch, height):
    terminal = Console(width=80, height=height, force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(grid_view, "out", terminal)
    view = grid_view.GridView(some_trials, 100, some_trials[0].folder.settings.train, concurrent=2)
    view.set_step(some_trials[1], (2, 50))
    with terminal.capture() as shown:
        terminal.print(view._table())
    text = shown.get()
    assert len(text.splitlines()) < height
    assert "1.5 of 3" in text
    assert "6 trial-epochs done, at most 5 to go" in text
    assert ("and 2 more" in text) == (height == 7)
    assert ("the training loss is nan" in text) == (height == 40)
