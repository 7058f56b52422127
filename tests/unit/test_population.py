"""Population-based training: who is run next, who is replaced, and by what; without Ray."""

import pytest
import torch
from networks import tiny

from faceae import cli, storage
from faceae.config import points
from faceae.config.grid import GridSettings
from faceae.errors import InputError
from faceae.metrics import NAMES
from faceae.models import save
from faceae.run_folder import RunFolder
from faceae.training import checkpoint
from faceae.training.progress import Progress
from faceae.training.state import TrainState
from faceae.tuning import trials as saved
from faceae.tuning.population import Population
from faceae.tuning.trials import Trial, open_trial

FLAGS = ["--preset", "article", "--tune.scheduler", "pbt", "--train.epochs", "6", "--asha.grace-epochs", "2"]
RATES = ["--tune.search", "random", "--tune.samples", "8", "--grid.optim.lr", "1e-4:1e-1:log"]


def parse(*flags: str) -> GridSettings:
    return cli.parse([*FLAGS, *flags], GridSettings)


def error(trial: Trial) -> float:
    return abs(trial.values["optim.lr"] - 0.003)


def train(trial: Trial, epochs: int) -> None:
    """Writes what a training worker would."""
    for epoch in range(trial.epochs + 1, epochs + 1):
        record = {"epoch": epoch, "seconds": 1.0, "train_loss": 0.5, "val": dict.fromkeys(NAMES, error(trial) / epoch)}
        trial.history.append(record)
    storage.write_lines(trial.folder.path("metrics.jsonl"), trial.history)
    network, settings = tiny()
    state = TrainState(network, settings)
    checkpoint.save(trial.folder.uri, state.snapshot(), Progress(list(trial.history), seconds=float(epochs)))
    save(trial.folder.path("model"), network, settings)
    trial.state = "finished" if epochs == 6 else "paused"


@pytest.fixture
def grid(tmp_path):
    settings = parse(*RATES, "--run.storage", str(tmp_path), "--run.name", "grid")
    folder = RunFolder(settings)
    opened = [open_trial(point, folder) for point in points.known(settings)]
    return settings, folder, opened, Population(settings, opened, lambda point: open_trial(point, folder))


def test_all_go_as_far_as_each_other_and_the_worst_become_copies_of_the_best(grid):
    _, _, trials, population = grid
    torch.manual_seed(0)
    first = [population.next() for _ in range(8)]
    assert first == trials
    assert population.next() is None  # all are running
    for trial in first:
        assert trial.until == 2
        train(trial, 2)
    order = sorted(first, key=error)
    following = [population.next() for _ in range(8)]
    assert population.next() is None
    assert [trial.state for trial in order[-2:]] == ["pruned", "pruned"]
    assert sorted(trial.name for trial in following) == sorted(trial.name for trial in [*order[:6], *trials[8:]])
    assert not population.begun
    for copy in trials[8:]:
        parent = next(trial for trial in order[:2] if trial.name == copy.parent)
        assert copy.inherited == 2
        assert copy.history == parent.history
        factor = copy.values["optim.lr"] / parent.values["optim.lr"]
        assert min(abs(factor - 0.8), abs(factor - 1.25)) < 0.01
        network, built = tiny()
        done, unusable = checkpoint.load(copy.folder.uri, TrainState(network, built), torch.device("cpu"))
        assert (done.epoch, unusable) == (2, [])
    for epochs in (4, 6):
        for trial in [trial for trial in trials if not trial.over]:
            train(trial, epochs)
        while trial := population.next():
            assert trial.until == 6
    assert population.begun
    assert population.done()
    assert len(trials) == 12
    assert sum(trial.epochs - trial.inherited for trial in trials) == 8 * 6  # as many as without copies


def test_a_population_that_was_stopped_goes_on_where_it_was(grid):
    settings, folder, trials, population = grid
    for _ in range(8):
        train(population.next(), 2)
    population.next()
    rows = saved.rows(trials)
    storage.write_json(folder.path("grid.json"), {"trials": rows})
    again = saved.open_trials(
        [points.proposed(settings, number, t.values) for number, t in enumerate(trials, 1)], folder
    )
    assert [(t.name, t.epochs, t.parent, t.inherited) for t in again] == [
        (t.name, t.epochs, t.parent, t.inherited) for t in trials
    ]
    assert [t.state for t in again] == [t.state if t.over else "pending" for t in trials]
    goes_on = Population(settings, again, lambda point: pytest.fail("nobody is to be replaced again"))
    assert goes_on.until == 4
    assert goes_on.next().until == 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--grid.model.latent-dim", "16", "32"], "--grid.model.latent-dim: --tune.scheduler pbt changes settings"),
        (["--grid.points", "optim.lr=0.1"], "--tune.scheduler pbt: needs lists or ranges"),
        (["--tune.search", "optuna", "--grid.optim.lr", "0.1", "0.2"], "--tune.scheduler pbt: needs lists or ranges"),
    ],
)
def test_what_a_population_cannot_change_is_refused(flags, words):
    with pytest.raises(InputError, match=words):
        points.checked(parse(*flags))
