"""Notes on settings that are valid, but may not be what is meant."""

import pytest

from faceae import cli
from faceae.config import Settings
from faceae.config.grid import GridSettings
from faceae.drivers import advice


def notes(capsys, *flags: str, kind: type[Settings] = Settings) -> str:
    advice.give(cli.parse(flags, kind))
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.image-size", "256"], "easier task, than of 128x128; --mask.size 56 hides as much"),
        (["--data.image-size", "256", "--mask.size", "56"], ""),
        (["--data.image-size", "256", "--preset", "denoise"], ""),
        ([], ""),
    ],
)
def test_a_hole_that_hides_less_than_it_seems(flags, words, capsys):
    found = notes(capsys, *flags)
    assert words in found if words else not found


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--train.epochs", "12"], "may be stopped after 1 epoch of 12; --asha.grace-epochs 3 gives"),
        (["--train.epochs", "12", "--tune.scheduler", "pbt"], "go on as a copy of a better one after 1 epoch of 12"),
        (["--train.epochs", "12", "--tune.scheduler", "none"], ""),
        (["--train.epochs", "12", "--asha.grace-epochs", "3"], ""),
        (["--train.epochs", "100"], ""),
    ],
)
def test_a_trial_may_be_given_up_too_soon(flags, words, capsys):
    found = notes(capsys, *flags, kind=GridSettings)
    assert words in found if words else not found
