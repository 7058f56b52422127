"""--help, --help-all and shell completion, in processes of their own, as a user meets them."""

import subprocess
import sys

import pytest
from runs import ROOT

from faceae import config
from faceae.commands import COMMANDS
from faceae.config import Settings
from faceae.config.grid import GridSettings

FACEAE = [sys.executable, "-m", "faceae"]


def said(*arguments: str, **environment: str) -> str:
    done = subprocess.run([*FACEAE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("job", COMMANDS)
def test_help_fits_two_screens_and_has_the_examples(job):
    text = said(job, "--help")
    assert len(text.splitlines()) <= 110
    assert COMMANDS[job].summary in text
    assert COMMANDS[job].examples.splitlines()[0].strip() in text


@pytest.mark.parametrize(("job", "kind"), [("train", Settings), ("tune", GridSettings)])
def test_a_short_help_names_every_flag_and_says_what_it_is(job, kind):
    lines = said(job, "--help").splitlines()
    for path in config.flat(config.to_dict(kind())):
        if path.startswith("grid.") and path != "grid.points":
            continue
        *_, line = [line for line in lines if line.split()[:1] == [config.flag(path)]]  # examples come first
        assert len(line.split()) >= 4, line
    assert len(said(job, "--help-all").splitlines()) > 2 * len(lines)


def test_the_short_help_shows_the_values_of_a_preset():
    assert "--optim.name muon" in said("train", "--preset", "restore", "--help")
    assert "--optim.name adam" in said("train", "--help")


@pytest.mark.parametrize("arguments", ["train --help", "train --help-all", "--help"])
def test_a_reader_that_leaves_gets_no_complaint(arguments):
    """`head` may leave before or after all has been written."""
    command = f"'{sys.executable}' -m faceae {arguments} | head -n 1 > /dev/null"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_bash_completes_jobs_and_flags():
    script = said("--completion")
    ask = 'COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _faceae; echo "${{COMPREPLY[@]}}"'
    for typed, completed in [
        ("faceae tr", "train"),
        ("faceae train --optim.l", "--optim.lr"),
        ("faceae tune --asha.g", "--asha.grace-epochs"),
        ("faceae restore --gr", "--grow"),
        ("faceae reconstruct --mod", ""),  # MODEL is positional
    ]:
        command = f"{script}\n{ask.format(typed)}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == completed
