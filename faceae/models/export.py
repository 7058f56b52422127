"""Exports a saved model as ONNX, for programs without torch; needs the extra `faceae[onnx]`."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from pyarrow import ArrowException

from faceae import storage
from faceae.errors import InputError
from faceae.models.files import load
from faceae.models.restorer import Restorer

FILE = "model.onnx"

OPSET = 20
"""ONNX operator set; in this one, GridSample does what torch's `grid_sample` does."""

_INPUTS = {
    "given": "(batch, 3, {0}, {0}) float32 RGB in [0, 1], 0 inside the hole",
    "mask": "(batch, 1, {0}, {0}) float32, 1 inside the hole and 0 outside",
}
_OUTPUTS = {"restored": "(batch, 3, {0}, {0}) float32 RGB in [0, 1]; to be used inside the hole only"}
_WHOLE = {
    "given": "(batch, 3, {0}, {0}) float32 RGB in [0, 1], the image as the task gives it",
    "mask": "(batch, 1, {0}, {0}) float32, 1 everywhere",
    "restored": "(batch, 3, {0}, {0}) float32 RGB in [0, 1]",
}
"""The descriptions for tasks that ask for every pixel."""


def export(uri: str, form: str = "onnx", destination: str | None = None) -> str:
    """Writes a saved model as one ONNX file.

    The file has the inputs and the output of the network, for any number of images at a time:

        given     (N, 3, S, S) float32 RGB in [0, 1]; 0 inside the hole
        mask      (N, 1, S, S) float32, 1 inside the hole and 0 outside
        restored  (N, 3, S, S) float32 RGB in [0, 1]; to be used inside the hole only

    S is the model's `data.image_size`. The file itself says the same, in the descriptions of its inputs and output and
    in its metadata.

    Args:
        uri: the model's folder, local or s3://bucket/path.
        form: the format to export to; only "onnx".
        destination: the file to write, local or s3://bucket/path; by default model.onnx in the model's folder.

    Returns:
        The URI of the file.

    Raises:
        InputError: the model or the format does not exist, the extra is not installed, or the file cannot be written.
    """
    if form != "onnx":
        raise InputError(f"{form}: a model can be exported as onnx only")
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"export as ONNX needs the package {package}; install it with: pip install 'faceae[onnx]'")
    destination = destination or storage.join(uri, FILE)
    content = _to_onnx(load(uri))
    try:
        storage.write(destination, content)
    except (OSError, ArrowException) as error:
        raise storage.explain(error, destination) from None
    return destination


def _to_onnx(model: Restorer) -> bytes:
    import onnx

    size = model.settings.data.image_size
    # Two examples: with one, torch would treat the batch size as a constant.
    given, mask = torch.zeros(2, 3, size, size), torch.zeros(2, 1, size, size)
    batch = torch.export.Dim("batch", min=1)
    with _quietly():
        program = torch.onnx.export(
            model.network,
            (given, mask),
            input_names=list(_INPUTS),
            output_names=list(_OUTPUTS),
            dynamic_shapes=({0: batch}, {0: batch}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto: Any = program.model_proto
    task = model.settings.task_name
    texts = _INPUTS | _OUTPUTS if task == "inpaint" else _WHOLE
    about = {name: text.format(size) for name, text in texts.items()}
    for value in (*proto.graph.input, *proto.graph.output):
        value.doc_string = about[value.name]
    does = "restores faces inside a hole" if task == "inpaint" else f"does the task {task} on faces"
    proto.doc_string = f"faceae: {does}. " + "; ".join(f"{n}: {t}" for n, t in about.items())
    network = {"image_size": str(size), "network": model.settings.model.name, "task": task}
    onnx.helper.set_model_props(proto, about | network)
    onnx.checker.check_model(proto)
    written: bytes = proto.SerializeToString()
    return written


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silences what torch's exporter prints, logs and warns of: its progress and its own internals."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
