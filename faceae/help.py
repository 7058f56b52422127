"""--help on two screens: each flag with its default and the first sentence of what --help-all says. Completion."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from faceae import config
from faceae.config import JobSettings

LONG = 20
"""A job with more flags than this has a short help, too."""

_WIDTH = 100
"""Characters in a line where there is no terminal."""

_LISTS = "grid"
"""The group whose own groups only repeat the flags of others."""

_BASH = """\
_faceae() {{
    local words="{jobs}"
    if [ "$COMP_CWORD" -gt 1 ]; then
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _faceae faceae"""


def is_long(settings: JobSettings) -> bool:
    """Whether a job has so many flags that its whole help does not fit two screens."""
    return len(config.flat(config.to_dict(settings))) > LONG


def short(settings: JobSettings, description: str, program: str) -> None:
    """Prints the short help of a job.

    Args:
        settings: what the flags change: the settings of a preset.
        description: what the job does, with examples.
        program: the command, such as "faceae train".
    """
    out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    given = "".join(f" {name}" for name in settings.POSITIONAL.values())
    out.print(f"usage: {program}{given} [OPTIONS]\n\n{description}\n", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False, expand=True)
    rows = list(_rows(settings))
    table.add_column(no_wrap=True, min_width=max(len(f"{flag} {value}") for flag, value, _ in rows))
    table.add_column(no_wrap=True, ratio=1, overflow="ellipsis" if out.encoding.startswith("utf") else "crop")
    for flag, value, said in rows:
        table.add_row(
            Text(flag) + Text(f" {value}", style="dim"), Text(said, style="" if flag.startswith("-") else "bold")
        )
    out.print(table)
    out.print(f"\nEach flag in full, with what it takes: {program} --help-all", markup=False)


def _rows(settings: JobSettings) -> Iterator[tuple[str, str, str]]:
    """Yields for each group a row of its name, and for each flag its name, its default and what it is."""
    for field in sorted(dataclasses.fields(settings), key=_is_group(settings)):
        value = getattr(settings, field.name)
        if not dataclasses.is_dataclass(value):
            yield _label(settings, field.name), _default(value), _said(type(settings), field.name)
            continue
        yield "", "", ""
        yield f"{field.name}", "", (type(value).__doc__ or "").partition(".")[0].partition(":")[0]
        for each in dataclasses.fields(value):
            inner = getattr(value, each.name)
            if dataclasses.is_dataclass(inner) and field.name == _LISTS:
                yield f"  {config.flag(field.name, each.name)}.*", "", f"Lists of values, or ranges, of --{each.name}.*"
            else:
                yield f"  {_label(settings, field.name, each.name)}", _default(inner), _said(type(value), each.name)


def _label(settings: JobSettings, *path: str) -> str:
    return settings.POSITIONAL.get(config.flag(*path), config.flag(*path))


def _is_group(settings: JobSettings) -> Any:  # noqa: ANN401
    return lambda field: dataclasses.is_dataclass(getattr(settings, field.name))


def _default(value: Any) -> str:  # noqa: ANN401
    if value is None or value is False:
        return ""
    words = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return words if len(words) <= 16 else f"{words[:14]}.."


def _said(kind: type, name: str) -> str:
    """Returns the first sentence, or line, of what a field's docstring says."""
    for each in kind.__mro__:
        if text := _docstrings(each).get(name):
            return re.split(r"(?<=\.)\s|\n", text.strip(), maxsplit=1)[0].removesuffix(".")
    return ""


@functools.cache
def _docstrings(kind: type) -> Mapping[str, str]:
    """Returns the strings below the fields of a class, by the fields' names."""
    try:
        (body,) = ast.parse(inspect.getsource(kind)).body
    except (OSError, TypeError):  # made at run time, or not in Python
        return {}
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def completion(jobs: Mapping[str, JobSettings]) -> str:
    """Returns a script for bash, or zsh with bashcompinit, that completes jobs, flags and file names.

    Args:
        jobs: the default settings of each job.
    """
    cases = []
    for name, settings in jobs.items():
        flags = [
            config.flag(path)
            for path in config.flat(config.to_dict(settings))
            if config.flag(path) not in settings.POSITIONAL
        ]
        cases.append(f'            {name}) words="--help --help-all {" ".join(flags)}" ;;')
    return _BASH.format(jobs=" ".join(jobs), cases="\n".join(cases))
