"""The commands and programs that the documentation shows."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from runs import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Shown(NamedTuple):
    """A command in a block `sh`, with its continuation lines, or a whole block `python`."""

    where: str  # file and line
    language: str
    text: str


def shown(page: Path) -> list[Shown]:
    """All that a page shows, in its order."""
    found = []
    for block in re.finditer(r"^```(sh|python)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        line = page.read_text()[: block.start()].count("\n") + 2
        parts = re.findall(r"(?:.*\\\n)*.*\n", block[2]) if block[1] == "sh" else [block[2]]
        for part in parts:
            found.append(Shown(f"{page.name}:{line}", block[1], part.replace("\\\n", " ").strip()))
            line += part.count("\n")
    return found


def words(command: str) -> list[str]:
    """The words of a command, without its comment."""
    return shlex.split(command, comments=True)
