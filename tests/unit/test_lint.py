"""`make lint` fails on what it forbids: each violation is planted in a copy of the package."""

import shutil
import subprocess
import sys

import pytest
from runs import ROOT


def tool(name: str) -> str:
    found = shutil.which(name, path=str(sys.executable).rpartition("/")[0]) or shutil.which(name)
    assert found, f"{name} is not installed; run make setup"
    return found


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "faceae", tmp_path / "faceae", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(copy, module: str, line: str) -> None:
    path = copy / "faceae" / module
    path.write_text(path.read_text() + f"\n{line}\n")


def lint(copy, *command):
    return subprocess.run(
        [tool(command[0]), *command[1:]], cwd=copy, capture_output=True, text=True, check=False, env={"PYTHONPATH": "."}
    )


@pytest.mark.parametrize(
    ("module", "line", "words"),
    [
        ("data/split.py", "import faceae.training.engine", "Imports go one way"),
        ("cluster/worker.py", "import faceae.tuning.search", "Imports go one way"),
        ("models/unet.py", "import ray", "know nothing of Ray"),
        ("training/losses.py", "import faceae.data.cache", "know nothing of Ray"),
        ("corruption/masks.py", "import torch", "need no torch"),
    ],
    ids=["upwards", "upwards from the cluster", "Ray in models", "Ray by way of another module", "torch in masks"],
)
def test_an_import_that_breaks_a_contract_is_found(copy, module, line, words):
    plant(copy, module, line)
    found = lint(copy, "lint-imports", "--no-cache")
    assert found.returncode == 1
    (broken,) = [text for text in found.stdout.splitlines() if text.endswith("BROKEN")]
    assert words in broken


@pytest.mark.parametrize("line", ["import ray._private.state", "from ray.train.v2._internal import constants"])
def test_a_private_import_of_ray_is_found(copy, line):
    plant(copy, "data/execution.py", line)
    found = lint(copy, "ruff", "check", "--no-cache", "--select", "TID251", "faceae")
    assert found.returncode == 1
    assert "Ray's private modules belong in faceae/ray_compat.py" in found.stdout


def test_the_package_has_no_violation(copy):
    assert lint(copy, "lint-imports", "--no-cache").returncode == 0
    assert lint(copy, "ruff", "check", "--no-cache", "--select", "TID251", "faceae").returncode == 0
