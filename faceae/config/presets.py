"""Settings to start from, by name. Other flags override those of `--preset`.

The presets `article` and `article-grid` are the settings of Eman Ijaz' article, see `faceae.config.article`:
https://medium.com/geekculture/face-image-reconstruction-using-autoencoders-in-keras-69a35cde01b0
"""

from __future__ import annotations

import dataclasses

from faceae.config import Data, Mask, Model, Optim, Settings, SettingsT, TaskName, Train
from faceae.config.article import ARTICLE
from faceae.config.grid import Grid, GridSettings, Optims
from faceae.errors import InputError

_ARTICLE = Settings(
    preset="article",
    mask=Mask(size=28),
    model=Model(name="article", latent_dim=300),
    optim=Optim(name="adam", lr=0.001),
    train=Train(epochs=15, batch_size=64, loss="mse", best_by="mse"),
)

_ARTICLE_POINTS = dict.fromkeys(  # two results differ only in their epochs and give one point
    f"optim.name={result.optimizer},optim.lr={result.lr:g},"
    f"train.batch-size={result.batch_size},train.loss={result.loss}"
    for result in ARTICLE
)

_RESTORE = Settings(
    preset="restore",
    mask=Mask(size=28),
    model=Model(name="unet", latent_dim=128, window=64, width=32),
    optim=Optim(name="muon", lr=0.004, schedule="cosine", warmup=0.02, average=0.05),
    train=Train(epochs=1000, max_minutes=20, batch_size=64, loss="hole", augment="mirror", best_by="composite_mse"),
)

_RESTORE_SHARP = dataclasses.replace(
    _RESTORE, preset="restore-sharp", train=dataclasses.replace(_RESTORE.train, sharpen=0.3, best_by="last")
)

_RESTORE_ANY = dataclasses.replace(
    _RESTORE,
    preset="restore-any",
    mask=Mask(kind=("box", "strokes", "half", "border"), size="16:63"),
    model=dataclasses.replace(_RESTORE.model, start="membrane"),
)

_WHOLE_FRAME = dataclasses.replace(
    _RESTORE,
    model=Model(name="unet", width=16, levels=4),
    train=dataclasses.replace(_RESTORE.train, loss="psnr", best_by="mse"),
)

_TASKS: dict[TaskName, Settings] = {
    "denoise": dataclasses.replace(_WHOLE_FRAME, model=dataclasses.replace(_WHOLE_FRAME.model, width=32)),
    "colorize": _WHOLE_FRAME,
    "upscale": _WHOLE_FRAME,
    "repair": dataclasses.replace(_WHOLE_FRAME, train=dataclasses.replace(_WHOLE_FRAME.train, loss="mse")),
}

_VAE = dataclasses.replace(
    _RESTORE,
    preset="vae",
    task=("reconstruct",),
    model=Model(name="vae", latent_dim=128),
    optim=dataclasses.replace(_RESTORE.optim, lr=0.002),
    train=dataclasses.replace(_RESTORE.train, loss="mse", best_by="mse"),
)

OF_TASK = {"inpaint": "restore"} | {task: task for task in _TASKS}
"""For each task the preset that does it well after 20 minutes."""

PRESETS: dict[str, Settings] = {
    "demo": Settings(),
    "article": _ARTICLE,
    "restore": _RESTORE,
    "restore-any": _RESTORE_ANY,
    "restore-sharp": _RESTORE_SHARP,
    **{task: dataclasses.replace(settings, preset=task, task=(task,)) for task, settings in _TASKS.items()},
    "vae": _VAE,
    "article-denoise": dataclasses.replace(_ARTICLE, preset="article-denoise", task=("denoise",)),
    "demo-grid": GridSettings(
        preset="demo-grid",
        data=Data(source=("synthetic:600",)),
        train=Train(epochs=6),
        grid=Grid(optim=Optims(name=("adam", "sgd"), lr=(0.01, 0.001))),
    ),
    "article-grid": GridSettings(
        preset="article-grid",
        mask=_ARTICLE.mask,
        model=_ARTICLE.model,
        train=_ARTICLE.train,
        grid=Grid(points=tuple(_ARTICLE_POINTS)),
    ),
}


def find(name: str, kind: type[SettingsT]) -> SettingsT:
    """Returns the settings of a preset. A grid can also start from a preset of a single run.

    Raises:
        InputError: no preset for this kind of settings has that name.
    """
    usable = [known for known, settings in PRESETS.items() if issubclass(kind, type(settings))]
    if name not in usable:
        raise InputError(f"--preset {name!r}: there is no such preset; choose from {', '.join(usable)}")
    found = PRESETS[name]
    return kind(**{field.name: getattr(found, field.name) for field in dataclasses.fields(found)})
