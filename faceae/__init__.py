"""faceae: distributed training of face-restoration autoencoders on Ray.

    model = faceae.load()                                     # fills scratches and spots without training
    model("old.jpg", "mask.png").save("restored.png")

    run = faceae.train("restore", data={"source": "path/to/faces"}, run={"name": "faces"})
    model = faceae.load(f"{run.folder}/model")

Every job is a function: `faceae.train`, `tune`, `prepare`, `evaluate`, `embed`, `reconstruct` and `serve`, see
`faceae.api`; `faceae.grid` reads what `tune` has left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from faceae.api import Grid, Result, embed, evaluate, grid, prepare, reconstruct, serve, train, tune
    from faceae.models import Restorer, SurroundingsModel

__all__ = [
    "Grid",
    "Result",
    "embed",
    "evaluate",
    "export",
    "grid",
    "load",
    "prepare",
    "reconstruct",
    "serve",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Imports a job when it is first used: Ray's workers, which import this package, need none of them."""
    if name not in __all__:
        raise AttributeError(f"module 'faceae' has no attribute {name!r}")
    from faceae import api

    return getattr(api, name)


@overload
def load(uri: str) -> Restorer: ...
@overload
def load(uri: None = None) -> SurroundingsModel: ...
def load(uri: str | None = None) -> Restorer | SurroundingsModel:
    """Loads a model that restores pictures: `load(uri)(picture, mask)`; see `faceae.models.load`.

    Without a URI, it is a network for scratches and spots that comes with faceae, without any training of yours.
    """
    from faceae import models  # not at the top: Ray Data's workers do not need torch, and importing it takes 2 s

    return models.load(uri) if uri is not None else models.SurroundingsModel()


def export(uri: str, form: Literal["onnx"] = "onnx", destination: str | None = None) -> str:
    """Writes a trained model in a format that other programs can run; see `faceae.models.export.export`."""
    from faceae.models.export import export

    return export(uri, form, destination)
