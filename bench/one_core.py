"""Milliseconds a picture on one core: a model's network in PyTorch and in ONNX Runtime, one after the other by turns.

    python -m bench.one_core out/faces/model

The two alternate in one process, so that what else runs on the machine slows both; the medians are compared.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import sys
import tempfile
import time

import torch

import faceae

ROUNDS = 20


def main(uri: str) -> None:
    """Prints the medians and their ratio."""
    import onnxruntime

    torch.set_num_threads(1)
    model = faceae.load(uri)
    size = model.settings.data.image_size
    given, mask = torch.rand(1, 3, size, size), torch.zeros(1, 1, size, size)
    mask[..., size // 3 : size // 2, size // 3 : size // 2] = 1
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(faceae.export(uri, "onnx", f"{folder}/model.onnx"), options)
    feed = {"given": (given * (1 - mask)).numpy(), "mask": mask.numpy()}
    runs = {
        "pytorch": lambda: model(given * (1 - mask), mask),
        "onnx": lambda: session.run(None, feed),
    }
    took: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                took[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(times) for name, times in took.items()}
    for name, median in medians.items():
        print(f"{name:8} {median:.1f} ms a picture of {size}x{size}")
    print(f"onnx / pytorch {medians['onnx'] / medians['pytorch']:.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
