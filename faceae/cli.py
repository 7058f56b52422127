"""The command line: `faceae JOB`, flags to settings, errors to exit codes."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import io
import itertools
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import tyro

from faceae import config, help, storage
from faceae.commands import COMMANDS, Command
from faceae.config import JobSettings, JobT, RunSettings, Settings, presets
from faceae.errors import CONTROL, InputError, RunFailedError, one_line, redacted
from faceae.run_folder import saved_settings

TRACEBACK = "FACEAE_TRACEBACK"
"""Environment variable that, when set, shows the traceback of a run that failed."""


_USAGE = f"""\
faceae: distributed training of face-restoration autoencoders on Ray.

    faceae JOB ...        what each job takes: faceae JOB --help
    faceae --version
    eval "$(faceae --completion)"        completes jobs and flags, in bash; put it into ~/.bashrc

{{jobs}}

First steps, on any machine:

    faceae train                                              # synthetic portraits, two minutes
    faceae train --preset restore --data.source path/to/faces --run.name faces
    faceae restore face.png --mask mask.png restored.png
    faceae reconstruct out/faces/model path/to/pictures out/restored

Exit codes: 0 done, 1 the run failed, 2 the input was wrong, 130 Ctrl-C. {TRACEBACK}=1 shows tracebacks.
"""


def main() -> None:
    """The command `faceae`, also `python -m faceae`: runs the job that the first argument names, and exits."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        run_job(name, arguments, f"faceae {name}")
    sys.exit(_for_a_reader(lambda: _without_job(name)))


def _without_job(name: str) -> int:
    if name in ("-h", "--help"):
        jobs = "\n".join(f"    {name:12}  {command.summary}" for name, command in COMMANDS.items())
        print(_USAGE.format(jobs=jobs))
        return 0
    if name == "--version":
        print(f"faceae {importlib.metadata.version('faceae')}")
        return 0
    if name == "--completion":
        kinds = {job: pkgutil.resolve_name(command.settings) for job, command in COMMANDS.items()}
        print(help.completion({job: kind() for job, kind in kinds.items()}))
        return 0
    _say(f"error: {name}: there is no such job; choose from {', '.join(COMMANDS)}")
    return 2


def run_job(name: str, arguments: Sequence[str] | None = None, program: str | None = None) -> NoReturn:
    """Runs a job and exits: 0 done, 1 the run failed, 2 the input was wrong, 130 Ctrl-C.

    Args:
        name: one of `COMMANDS`.
        arguments: the flags; by default those of the command line.
        program: the command that --help shows.
    """
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(_for_a_reader(lambda: _exit_code(COMMANDS[name], given, program)))


def _for_a_reader(show: Callable[[], int]) -> int:
    """Returns an exit code; 1 without a word if whoever read the output, such as `head`, has left."""
    try:
        try:
            return show()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 1


def _exit_code(command: Command, arguments: Sequence[str], program: str | None) -> int:
    kind: type[JobSettings] = pkgutil.resolve_name(command.settings)
    try:
        settings = parse(arguments, kind, command.help, program)
        # Imported only once the flags are valid: Ray and torch take seconds, and --help should not.
        pkgutil.resolve_name(command.driver)(settings)
    except InputError as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say(f"interrupted; {kind.RESUME_HINT}")
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        text = one_line(error)
        if not isinstance(error, RunFailedError):  # unexpected: a bug of faceae, or the cluster failed
            text = f"{type(error).__name__}: {text} ({TRACEBACK}=1 shows where)"
        _say(f"failed: {text}")
        return 1
    return 0


def _say(text: str) -> None:
    """Prints to stderr, in one line whatever the input, and without the credentials that a URI may hold."""
    text = CONTROL.sub(lambda found: ascii(found[0])[1:-1], redacted(text))
    print(text if len(text) <= 1000 else f"{text[:600]} ... {text[-300:]}", file=sys.stderr)


def parse(arguments: Sequence[str], kind: type[JobT], description: str = "", program: str | None = None) -> JobT:
    """Reads flags into validated settings, on top of a preset, or of the saved settings of a run to resume.

    Args:
        arguments: the flags.
        kind: the job's settings class.
        description: text at the top of --help.
        program: the command that --help shows.

    Raises:
        InputError: an unknown flag or preset, or an invalid value.
    """
    start = kind()
    if isinstance(start, Settings):
        name = _preset_name(arguments)
        start = presets.find(start.preset if name is None else name, type(start))
    if {"-h", "--help"} & set(arguments) and help.is_long(start):
        help.short(start, description, program or sys.argv[0])
        raise SystemExit(0)
    settings = config.convert(_parse(arguments, start, description, program))
    if not isinstance(settings, RunSettings):
        return config.validate(settings)
    if settings.run.resume and (saved := saved_settings(settings)):
        # Tyro would not accept a switch that is on already.
        settings = _parse(arguments, config.without_switches(saved), description, program)
    return config.validate(settings)


def _preset_name(arguments: Sequence[str]) -> str | None:
    for flag, value in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if flag == "--preset":
            return value
        if flag.startswith("--preset="):
            return flag.removeprefix("--preset=")
    return None


def _parse(arguments: Sequence[str], default: JobT, description: str, program: str | None) -> JobT:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                type(default),
                prog=program,
                args=["--help" if each == "--help-all" else each for each in arguments],
                default=default,
                description=description,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except BrokenPipeError:
        raise SystemExit(1) from None
    except SystemExit as end:
        if not end.code:
            raise
        for argument in arguments:  # tyro repeats some of them, in lines of 80 characters
            if redacted(argument) != argument:
                raise InputError(f"{redacted(argument)}: {storage.fault(argument)}") from None
        message = _unboxed(said.getvalue())
        raise InputError(f"{message}; {_meant(message, default)}--help lists the flags") from None


def _unboxed(box: str) -> str:
    """Returns the first part of a boxed message of tyro, in one line."""
    _, _, message = box.partition("\n")  # the first line is a title; without UTF-8 there is no frame, only rulers
    parts = re.split(r"[─-]{20,}", re.sub(r"[│╰╯]", " ", message))
    text = " ".join(next((part for part in parts if part.strip()), box).split())
    return text.partition(". Got errors:")[0]


def _meant(message: str, settings: JobSettings) -> str:
    """Says which flags an unrecognized one may have meant: of the same name or nearly so, or all of its group."""
    found = re.match(r"Unrecognized options: (--[^\s,=]+)", message)
    if found is None:
        return ""
    unknown, known = found[1], [config.flag(path) for path in config.flat(config.to_dict(settings))]
    group, _, name = unknown.rpartition(".")
    near = [flag for flag in known if flag.rpartition(".")[2] == name.removeprefix("--")]
    near = near or difflib.get_close_matches(unknown, known, 1, 0.9)
    near = near or [flag for flag in known if group and flag.rpartition(".")[0] == group]
    near = near or difflib.get_close_matches(unknown, known, 1)
    return f"near it: {' '.join(near)}; " if near else ""
