"""The convolutional autoencoder of the Keras article.

The article is Eman Ijaz, "Face Image Reconstruction using Autoencoders in Keras", Geek Culture on Medium,
https://medium.com/geekculture/face-image-reconstruction-using-autoencoders-in-keras-69a35cde01b0

It shows its layer sizes only as pictures. 32-64-64-64 filters, kernel 3, stride 2, batch normalisation and leaky ReLU
(Keras' slope of 0.3) are our reading of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FILTERS = (32, 64, 64, 64)
_SLOPE = 0.3


class ArticleAutoencoder(nn.Module):
    """Strided convolutions -> latent vector -> transposed convolutions -> sigmoid.

    The network sees only the given image, never the mask, and the whole output passes through the bottleneck.
    """

    def __init__(self, image_size: int, latent_dim: int) -> None:
        """Builds the layers for images of `image_size` (a multiple of 16) and a latent of `latent_dim` numbers."""
        super().__init__()
        side = image_size // 2 ** len(_FILTERS)
        features = _FILTERS[-1] * side * side
        self.encoder = nn.Sequential(
            *_down(3, _FILTERS[0]),
            *_down(_FILTERS[0], _FILTERS[1]),
            *_down(_FILTERS[1], _FILTERS[2]),
            *_down(_FILTERS[2], _FILTERS[3]),
            nn.Flatten(),
            nn.Linear(features, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, features),
            nn.Unflatten(1, (_FILTERS[3], side, side)),
            *_up(_FILTERS[3], _FILTERS[2]),
            *_up(_FILTERS[2], _FILTERS[1]),
            *_up(_FILTERS[1], _FILTERS[0]),
            nn.ConvTranspose2d(_FILTERS[0], 3, 3, stride=2, padding=1, output_padding=1),
        )

    def forward(self, given: Tensor, mask: Tensor) -> Tensor:
        """Maps (N, 3, S, S) in [0, 1] to (N, 3, S, S) float32 in [0, 1]; ignores the mask."""
        return self.decode(self.encode(given, mask))

    def decode(self, latent: Tensor) -> Tensor:
        """Returns the faces, (N, 3, S, S) float32 in [0, 1], of latent vectors, (N, latent_dim)."""
        return torch.sigmoid(self.decoder(latent).float())

    def encode(self, given: Tensor, mask: Tensor) -> Tensor:
        """Returns the latent vectors of faces, (N, latent_dim); see `forward` for what is given."""
        latent: Tensor = self.encoder(given)
        return latent


def _down(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),  # batch norm adds the bias
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


def _up(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )
