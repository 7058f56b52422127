"""The command line of every job: flags to settings, errors to exit codes."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pkgutil
import re
import sys
from collections.abc import Sequence

import tyro

from faceae import config
from faceae.config import JobSettings, JobT, RunSettings, Settings, presets
from faceae.errors import InputError, RunFailedError
from faceae.run_folder import saved_settings

TRACEBACK = "FACEAE_TRACEBACK"
"""Set in the environment to see the traceback of a run that failed."""


def job(description: str, function: str, kind: type[JobSettings] = Settings) -> None:
    """Runs a job as the command line asks, and exits: 0 done, 1 the run failed, 2 the input was wrong, 130 Ctrl-C.

    Args:
        description: what --help says first.
        function: "module:function" that takes the settings. Imported once the flags are known to be good: Ray and
            torch take seconds, and a wrong flag or --help should not.
        kind: of the settings.
    """
    sys.exit(_exit_code(description, function, kind))


def _exit_code(description: str, function: str, kind: type[JobSettings]) -> int:
    try:
        settings = parse(sys.argv[1:], description, kind)
        pkgutil.resolve_name(function)(settings)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {kind.RESUME_HINT}", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        text = (str(error).strip().splitlines() or [""])[-1]
        if not isinstance(error, RunFailedError):  # the last resort: a defect of ours or of the cluster
            text = f"{type(error).__name__}: {text} ({TRACEBACK}=1 shows where)"
        print(f"failed: {text}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str], description: str, kind: type[JobT]) -> JobT:
    """Reads flags into checked settings, on top of the preset, or of the saved settings of a run to resume.

    Raises:
        InputError: an unknown flag or preset, or a value that cannot be.
    """
    start = kind()
    if isinstance(start, Settings):
        start = presets.find(_preset_name(arguments) or start.preset, type(start))
    settings = _parse(arguments, description, start)
    if not isinstance(settings, RunSettings):
        return config.validate(settings)
    if settings.run.resume and (saved := saved_settings(settings)):
        # It may have been resumed before; tyro sets flags only.
        settings = _parse(arguments, description, config.with_run(saved, resume=False))
    return config.validate(settings)


def _preset_name(arguments: Sequence[str]) -> str | None:
    for flag, value in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if flag == "--preset":
            return value
        if flag.startswith("--preset="):
            return flag.removeprefix("--preset=")
    return None


def _parse(arguments: Sequence[str], description: str, default: JobT) -> JobT:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                type(default),
                args=arguments,
                default=default,
                description=description,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise InputError(_one_line(said.getvalue())) from None


def _one_line(box: str) -> str:
    """What tyro says in a box of several lines, as one line: up to its rule, without the frame."""
    text = re.split(r"─{20,} *│", box.split("\n", 1)[1])[0] if "\n" in box else box
    return " ".join(re.sub(r"[│╭╮╰╯─]+", " ", text).split()) + "; --help lists the flags"
