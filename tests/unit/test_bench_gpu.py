"""`make gpu` works where there is no GPU, at small size, so that it does not rot; its figures mean nothing here."""

import json
import subprocess
import sys

import pytest
import torch
from runs import ROOT

from bench import gpu, gpu_parity, gpu_step, gpu_variants
from faceae import metrics
from faceae.training.losses import LOSSES


def test_it_needs_no_ray_and_no_command_line():
    """A machine that is lent for its GPU has torch, and little else."""
    absent = "for name in ('ray', 'tyro', 'yaml', 'tensorboardX', 'jinja2', 'pandas'): sys.modules[name] = None"
    done = subprocess.run([sys.executable, "-c", f"import sys\n{absent}\nimport bench.gpu"], cwd=ROOT, check=False)
    assert done.returncode == 0


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_all_parts_run_and_the_file_holds_them(tmp_path, one_thread):
    output = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--seconds", "0.01", "--output", str(output), "--only"]
    assert gpu.main([*arguments, "parity", "steps"]) == 0
    assert gpu.main([*arguments, "trials"]) == 0  # the parts measured before stay
    content = json.loads(output.read_text())
    assert content["small"]
    assert all(row["ok"] and row["difference"] <= (row["bound"] or 0) for row in content["parity"])
    whats = " ".join(row["what"] for row in content["parity"])
    networks = ("article: gradient", "restore: gradient", "article: weights of a resumed run")
    optimizers = ("adam", "sgd", "rmsprop", "muon")
    assert [each for each in (*metrics.NAMES, *LOSSES, *optimizers, *networks) if each not in whats] == []
    assert set(content["steps"]) == {"peaks", "article", "restore"}
    for name in ("article", "restore"):
        step = content["steps"][name]
        assert set(step["ms"]) == {"from host batches", "on the device", "host", "upload", "resident", "evaluation"}
        assert min(step["ms"].values()) > 0
        assert step["operators"] > 100
        assert set(step["variants"]) == set(gpu_variants.VARIANTS)
        fp32, bf16 = (step["variants"][each]["loss"] for each in gpu_variants.ON_CPU)
        assert bf16 == pytest.approx(fp32, rel=0.05)
    assert set(content["trials"]["plain"]) == {"2"}
    assert content["trials"]["plain"]["2"]["images_per_second"] > 0
    assert content["trials"]["mps"] == {"skipped": "needs a GPU"}


def test_other_weights_on_the_device_are_reported(capsys, one_thread):
    assert gpu.main(["--device", "cpu", "--only", "parity", "--perturb", "0.001"]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    failed = {line[0] for line in lines if line[-1:] == ["FAILED"]}
    assert failed == {"article:", "restore:"}  # the losses, optimizers and metrics get the same numbers


def test_a_difference_that_is_not_a_number_fails():
    assert not gpu_parity.Row("", 1.0, float("nan"), float("nan"), 1.0).ok


def test_the_arithmetic_of_a_step_is_counted():
    """A multiply-add is two operations; backward takes as many again, for the weights only."""
    layer = torch.nn.Linear(64, 32, bias=False)
    given = torch.rand(8, 64)
    work = gpu_step._work(lambda: layer(given).sum().backward())
    assert work["flops"] == 2 * 2 * 8 * 64 * 32
    assert work["bytes"] > 4 * (2 * 8 * 64 + 2 * 64 * 32 + 2 * 8 * 32)
