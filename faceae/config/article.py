"""What the Keras article reports, to stand beside every result."""

from __future__ import annotations

from typing import NamedTuple

from faceae.config import Mask, Settings


class ReportedResult(NamedTuple):
    """A line of the article: FFHQ at 128x128, a 28x28 box, latent 300, one GPU.

    Attributes:
        optimizer: its name in `--optim.name`.
        lr: learning rate.
        epochs: trained for.
        batch_size: of a step.
        loss: its name in `--train.loss`.
        value: of that loss, over the full frame.
        rgb_argmax_accuracy: Keras' `accuracy` on an image.
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
        """Which line it is, for a table."""
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
    """The article's lines with the same optimizer, rate and loss."""
    wanted = (settings.optim.name, settings.optim.lr, settings.train.loss)
    return [line for line in ARTICLE if (line.optimizer, line.lr, line.loss) == wanted]


def comparable(image_size: int, mask: Mask) -> bool:
    """Whether that is what the article measured on, but for the pictures: a 28x28 box at 128x128."""
    return image_size == 128 and (tuple(mask.kind), mask.sizes, mask.count) == (("box",), (28, 28), 1)
