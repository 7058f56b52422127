"""Every command that the documentation shows has flags that its job knows, with values that it takes."""

import pkgutil

import pytest
from documented import PAGES, shown, words

from faceae import cli
from faceae.commands import COMMANDS


def jobs(page):
    """Job and arguments of each command, `faceae JOB ...` or `... -- python jobs/JOB.py ...`."""
    for each in shown(page):
        if each.language == "sh" and (said := words(each.text)):
            if said[0] == "faceae":
                yield pytest.param(said[1], said[2:], id=each.where)
            if said[:3] == ["ray", "job", "submit"]:
                _, script, *arguments = said[said.index("--") + 1 :]
                yield pytest.param(script.removeprefix("jobs/").removesuffix(".py"), arguments, id=each.where)


COMMAND_LINES = [each for page in PAGES for each in jobs(page)]


def test_the_commands_are_found():
    assert len(COMMAND_LINES) > 40


@pytest.mark.parametrize(("job", "arguments"), COMMAND_LINES)
def test_a_command_is_understood(job, arguments):
    cli.parse(arguments, pkgutil.resolve_name(COMMANDS[job].settings))
