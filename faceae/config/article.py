"""The results that the Keras article reports, which faceae's reports compare with its own.

The article is Eman Ijaz, "Face Image Reconstruction using Autoencoders in Keras", Geek Culture on Medium,
https://medium.com/geekculture/face-image-reconstruction-using-autoencoders-in-keras-69a35cde01b0
"""

from __future__ import annotations

from typing import NamedTuple

from faceae.config import Settings


class ReportedResult(NamedTuple):
    """One result of the article: FFHQ at 128x128, a 28x28 box, a latent of 300 numbers, one GPU.

    Attributes:
        optimizer: the optimizer's name in `--optim.name`.
        lr: learning rate.
        epochs: epochs of training.
        batch_size: images per step.
        loss: the loss' name in `--train.loss`.
        value: the value of that loss over the full frame.
        rgb_argmax_accuracy: share of pixels whose largest colour channel is right, in [0, 1]: Keras' `accuracy` on an
            image.
    """

    optimizer: str
    lr: float
    epochs: int
    batch_size: int
    loss: str
    value: float
    rgb_argmax_accuracy: float

    @property
    def label(self) -> str:
        """The settings in a few words, for a table."""
        return f"article, {self.optimizer} {self.lr:g}, {self.epochs} epochs"


ARTICLE = (
    ReportedResult("adam", 0.001, 50, 64, "mse", 0.0111, 0.8510),
    ReportedResult("adam", 0.001, 15, 64, "mse", 0.0111, 0.8475),
    ReportedResult("sgd", 0.001, 15, 64, "mse", 0.0111, 0.8469),
    ReportedResult("sgd", 0.01, 15, 64, "mse", 0.0118, 0.8433),
    ReportedResult("adam", 0.01, 15, 64, "mse", 0.0121, 0.8392),
    ReportedResult("adam", 0.0001, 30, 32, "mse", 0.0125, 0.8357),
    ReportedResult("rmsprop", 0.01, 10, 64, "bce", 0.5712, 0.8022),
)


def matching(settings: Settings) -> list[ReportedResult]:
    """Returns the article's results with the same network, hole, optimizer, learning rate and loss; the photographs may
    be others."""
    if any(uri.startswith("synthetic:") for uri in settings.data.source):
        return []
    size, mask = settings.data.image_size, settings.mask
    hole = size, tuple(mask.kind), mask.sizes, mask.count
    if (settings.task, settings.model.name, hole) != (("inpaint",), "article", (128, ("box",), (28, 28), 1)):
        return []
    wanted = (settings.optim.name, settings.optim.lr, settings.train.loss)
    return [result for result in ARTICLE if (result.optimizer, result.lr, result.loss) == wanted]
