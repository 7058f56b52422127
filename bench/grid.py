"""Measures what a grid saves by decoding once and starting once, against the same settings run one by one.

- `grid`: jobs/tune.py with the article's six settings, none of them stopped early.
- `single runs`: jobs/train.py six times.

A decode is counted whenever any process opens an image file (Linux inotify); listing the folder opens none.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from opened import Opened

from bench.training import ROOT
from faceae.config import flags, points, presets
from faceae.config.grid import GridSettings

EPOCHS = 2


class Cost(NamedTuple):
    """The cost of all runs together.

    Attributes:
        seconds: seconds from the start of the first command to the end of the last.
        decodes: number of decodes per image.
    """

    seconds: float
    decodes: float


def together(source: Path) -> Cost:
    """Runs the settings as a grid."""
    arguments = ["--preset", "article-grid", "--asha.grace-epochs", str(EPOCHS)]
    return _measure(source, [["tune.py", *arguments]])


def one_by_one(source: Path) -> Cost:
    """Runs the settings one by one."""
    trials = points.known(presets.find("article-grid", GridSettings))
    return _measure(source, [["train.py", *flags(point.settings)] for point in trials])


def _measure(source: Path, commands: list[list[str]]) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        opened, start = Opened(source), time.monotonic()
        for number, (script, *arguments) in enumerate(commands):
            where = ["--data.source", str(source), "--run.storage", folder, "--run.name", f"bench-{number}"]
            command = [sys.executable, str(ROOT / "jobs" / script), *arguments, *where, "--train.epochs", str(EPOCHS)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        counts = opened.count()
    return Cost(time.monotonic() - start, sum(counts.values()) / len(list(source.iterdir())))
