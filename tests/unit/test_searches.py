"""Searches: ranges, drawn and proposed trials, and the schedulers that stop them early."""

import random
from collections import Counter

import pytest
from ray.tune.schedulers import TrialScheduler

from faceae import cli
from faceae.cluster.protocol import METRIC, TIME
from faceae.config import points, space
from faceae.config.grid import GridSettings
from faceae.errors import InputError
from faceae.metrics import NAMES
from faceae.run_folder import RunFolder
from faceae.tuning import importance
from faceae.tuning.proposals import Proposals
from faceae.tuning.schedulers import scheduler
from faceae.tuning.trials import Trial, open_trial

SPACE = ["--grid.optim.name", "adam", "sgd", "--grid.optim.lr", "1e-4:1e-1:log", "--grid.train.batch-size", "8:64"]


def parse(*flags: str) -> GridSettings:
    return cli.parse(["--preset", "article", *flags], GridSettings)


def test_random_trials_are_in_their_ranges_and_the_same_for_a_seed():
    settings = parse("--tune.search", "random", "--tune.samples", "200", *SPACE)
    found = points.known(settings)
    assert len({point.name for point in found}) == 200
    rates = [point.values["optim.lr"] for point in found]
    assert 1e-4 <= min(rates) < 2e-4
    assert 5e-2 < max(rates) <= 1e-1
    assert 0.25 < sum(rate < 10**-2.5 for rate in rates) / 200 < 0.75  # half of the orders of magnitude
    assert all(
        len(f"{rate:e}".rstrip("0").split("e")[0].rstrip("0")) <= 4 for rate in rates
    )  # three digits and a point
    sizes = [point.settings.train.batch_size for point in found]
    assert all(isinstance(size, int) and 8 <= size <= 64 for size in sizes)
    assert {point.settings.optim.name for point in found} == {"adam", "sgd"}
    assert found == points.known(settings)
    assert found != points.known(parse("--tune.search", "random", "--tune.samples", "200", "--tune.seed", "1", *SPACE))


def test_random_trials_from_short_lists_are_drawn_once():
    found = points.known(parse("--tune.search", "random", "--tune.samples", "50", "--grid.optim.lr", "0.1", "0.01"))
    assert sorted(point.values["optim.lr"] for point in found) == [0.01, 0.1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--grid.optim.lr", "1e-4:1e-1:log"], "--grid.optim.lr: a range needs --tune.search random or optuna"),
        (["--tune.search", "random"], "nothing to compare"),
        (["--tune.search", "optuna"], "nothing to compare"),
        (["--tune.search", "random", "--grid.optim.lr", "0.1:0.01"], "the first end of a range must be less"),
        (["--tune.search", "random", "--grid.optim.lr", "0:1:log"], "begins above 0"),
        (["--tune.search", "random", "--grid.optim.lr", "0.1:1:2"], "write a number, or a range"),
        (["--tune.search", "random", "--grid.optim.lr", "0.1:nan"], "the first end of a range must be less"),
        (["--tune.search", "random", "--grid.train.batch-size", "0.5:8"], "2:8 or 16:256:log"),
        (["--tune.search", "random", "--grid.optim.lr", "0.1:0.2", "0.5"], "give one range, or a list"),
        (["--tune.search", "optuna", "--grid.optim.lr", "-1:0.2"], "--optim.lr -1"),
        (["--tune.search", "random", "--grid.points", "optim.lr=0.1"], "--grid.points: points are a grid"),
        (["--tune.search", "random", "--tune.samples", "0", *SPACE], "--tune.samples 0"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_a_wrong_search_gives_a_one_line_error_that_names_the_flag(flags, words):
    with pytest.raises(InputError) as error:
        points.checked(parse(*flags))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_checked_of_a_search_has_all_ends_and_all_listed_values():
    checked = points.checked(parse("--tune.search", "optuna", *SPACE))
    assert {point.values["optim.lr"] for point in checked} == {1e-4, 1e-1}
    assert {point.values["train.batch_size"] for point in checked} == {8, 64}
    assert {point.values["optim.name"] for point in checked} == {"adam", "sgd"}


def test_a_draw_from_a_whole_range_reaches_both_ends():
    drawn = {space.interval("2:4", int).draw(random.Random(seed)) for seed in range(99)}
    assert drawn == {2, 3, 4}


def record(epoch: int, value: float) -> dict:
    return {"epoch": epoch, "seconds": 1.0, "train_loss": value, "val": dict.fromkeys(NAMES, value)}


def searched(tmp_path, settings: GridSettings, error, samples: int) -> list[Trial]:
    """Runs a search on a function instead of a training run; every third trial is pruned."""
    proposals, trials = Proposals(settings), []
    folder = RunFolder(settings)
    for i in range(samples):
        trial = open_trial(proposals.next(trials), folder)
        trial.history = [record(1, error(trial.values))]
        trial.state = "pruned" if i % 3 == 2 else "finished"
        trials.append(trial)
    return trials


def valley(values: dict) -> float:
    """Is least for adam at 0.003."""
    lr = values["optim.lr"]
    return 0.01 * (1 + max(lr / 0.003, 0.003 / lr) + (5 if values["optim.name"] == "sgd" else 0))


def test_proposals_get_better_and_follow_from_the_trials_alone(tmp_path):
    flags = ["--tune.search", "optuna", "--tune.samples", "30", *SPACE, "--run.storage", str(tmp_path)]
    settings = parse(*flags)
    trials = searched(tmp_path, settings, valley, 30)
    assert trials[0].name == "01-adam-0.001-64"  # the preset's own
    early, late = ([trial.value for trial in part] for part in (trials[:10], trials[20:]))
    assert sorted(late)[5] < sorted(early)[5]
    assert Counter(trial.values["optim.name"] for trial in trials[15:])["adam"] > 8
    again = Proposals(settings).next(trials[:17])
    assert (again.name, again.values) == (trials[17].name, trials[17].values)


def test_importance_names_what_mattered(tmp_path):
    settings = parse("--tune.search", "random", "--tune.samples", "99", *SPACE, "--run.storage", str(tmp_path))
    trials = [open_trial(point, RunFolder(settings)) for point in points.known(settings)]
    for trial in trials:
        trial.state, trial.history = "finished", [record(1, valley(trial.values))]
    found = importance.shares(importance.compared(trials))
    assert list(found) == ["optim.lr", "optim.name", "train.batch_size"]
    assert 1 > found["optim.lr"] > 0.4 > found["optim.name"] > 0.05 > found["train.batch_size"] >= 0


@pytest.mark.parametrize("kind", ["asha", "hyperband", "median", "none"])
def test_a_scheduler_knows_the_trials_of_an_earlier_session(tmp_path, kind):
    """Of trials that are worse than all that ended before, each but `none` stops some; hyperband not all of them."""
    flags = ["--grid.optim.lr", *(f"0.0{i}" for i in range(1, 8)), "--tune.scheduler", kind, "--train.epochs", "9"]
    settings = parse(*flags, "--asha.grace-epochs", "2", "--run.storage", str(tmp_path))
    trials = [open_trial(point, RunFolder(settings)) for point in points.known(settings)]
    for trial in trials[:6]:
        trial.state, trial.history = "finished", [record(epoch, 0.1 / epoch) for epoch in range(1, 10)]
    made = scheduler(settings, trials)
    decisions = []
    for number in range(20):
        new = type("New", (), {"trial_id": f"new {number}"})()
        made.on_trial_add(None, new)
        for epoch in range(1, 9):
            decisions.append((epoch, made.on_trial_result(None, new, {TIME: epoch, METRIC: 5.0})))
            if decisions[-1][1] == TrialScheduler.STOP:
                break
    stopped = [epoch for epoch, decision in decisions if decision == TrialScheduler.STOP]
    assert bool(stopped) == (kind != "none")
    assert min(stopped, default=2) == 2  # after the grace
