"""What a summary and the terminal say of a model beside the baselines."""

import math

import pyarrow as pa
import pytest

from faceae import cli, metrics
from faceae.config import Settings
from faceae.console import out
from faceae.evaluation import aggregate
from faceae.reporting.comparison import extended, longer, print_comparison, print_sharpness
from faceae.reporting.tables import references


def table(*rows):
    """Rows of (kind, the model's error, Telea's, PCA's); NaN where the baselines were not measured."""
    columns = {"kind": [kind for kind, *_ in rows]}
    for place, prefix in enumerate(("", "black_", "telea_", "pca_")):
        errors = [(model, 1.0 if not math.isnan(telea) else telea, telea, pca)[place] for _, model, telea, pca in rows]
        columns |= {f"{prefix}{name}": errors for name in metrics.NAMES}
    return pa.table(columns)


NONE = math.nan
ROWS = table(("box", 0.1, 0.4, 0.2), ("box", 0.3, 0.1, 0.2), ("box", 0.8, NONE, NONE), ("half", 0.5, NONE, NONE))


def test_model_and_baselines_are_compared_on_the_images_on_which_the_baselines_were_measured():
    means = aggregate.means(ROWS)
    assert means["images"] == 4
    assert means["val"]["hole_mse"] == pytest.approx(0.425)
    assert means["compared"] == {"images": 2, "of": 4, "val": pytest.approx(dict.fromkeys(metrics.NAMES, 0.2))}
    assert {name: values["hole_mse"] for name, values in means["baselines"].items()} == pytest.approx(
        {"black": 1, "telea": 0.25, "pca": 0.2}
    )
    assert means["best_baseline"] == "pca"
    assert means["of_best"] == pytest.approx(1)
    assert means["worse_share"] == 0.5


def test_a_group_without_a_compared_image_has_no_best_baseline():
    groups = aggregate.by_kind(ROWS, ["box", "half"])
    assert groups["box"]["best_baseline"] == "pca"
    assert groups["half"]["val"]["hole_mse"] == 0.5
    assert (groups["half"]["best_baseline"], groups["half"]["compared"]["images"]) == (None, 0)


def test_the_terminal_says_the_share_of_the_best_the_sample_and_what_is_left_out():
    with out.capture() as printed:
        print_comparison({"task": "inpaint"} | aggregate.means(ROWS))
    assert printed.get().splitlines() == [
        "best baseline: pca; the model has 1.00 of its error in the hole (on a sample of 2)",
        "That is no better than what needs no training. Train for longer.",
        "left out: navier_stokes, biharmonic; pip install opencv-python-headless scikit-image",
    ]
    assert list(references(aggregate.means(ROWS))) == ["on a sample of 2", "black", "telea", "pca"]


def test_a_model_without_a_pca_is_told_so():
    with out.capture() as printed:
        print_comparison(
            {"task": "inpaint"} | aggregate.means(ROWS.drop_columns([f"pca_{name}" for name in metrics.NAMES]))
        )
    assert "left out: pca; the model has no pca.safetensors beside it" in printed.get()


def parse(*flags):
    return cli.parse(flags, Settings)


def test_twice_as_long_is_twice_as_many_epochs_and_minutes():
    assert extended(parse("--train.epochs", "3").train, 2).epochs == 6
    restore = parse("--preset", "restore").train
    assert (extended(restore, 2).epochs, extended(restore, 2).max_minutes) == (2 * restore.epochs, 40)


@pytest.mark.parametrize(
    ("flags", "minutes"),
    [
        (["--preset", "restore", "--train.max-minutes", "2"], 40),  # less than the preset's 20
        (["--preset", "restore", "--train.max-minutes", "50"], 100),
        (["--preset", "restore-any"], 40),
        (["--preset", "demo"], 20),  # a quick one: first that of the task
    ],
)
def test_the_command_for_longer_takes_twice_the_run_and_no_less_than_the_preset(flags, minutes):
    command = longer(parse(*flags, "--data.source", "here", "--run.name", "a"))
    preset = flags[1] if "restore" in flags[1] else "restore"
    assert command.startswith(f"faceae train --preset {preset} ")
    again = parse(*command.split()[2:])
    assert (again.train.max_minutes, again.data.source, again.run.name) == (minutes, ("here",), "a-longer")


@pytest.mark.parametrize(
    ("preset", "epochs", "words"),
    [("restore-sharp", 37, "after 2109, fills may have"), ("restore-sharp", 82, ""), ("restore", 37, "")],
)
def test_a_short_run_against_a_critic_is_told_so(preset, epochs, words):
    summary = {"epochs": epochs, "counts": {"train": 3648}}
    with out.capture() as printed:
        print_sharpness(summary, parse("--preset", preset).train, "faceae train")
    assert (words in printed.get() and "faceae train" in printed.get()) if words else not printed.get()
