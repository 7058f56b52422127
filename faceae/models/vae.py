"""A variational autoencoder (Kingma and Welling, 2014, arxiv.org/abs/1312.6114) with the article's layers.

The encoder says of each latent number where it lies and how sure that is; in training the decoder gets a number drawn
from there. The divergence of these from a standard normal distribution is added to the loss, so that what is drawn from
that distribution decodes to faces, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceae.models.article import ArticleAutoencoder

_WIDEST = 10.0  # limit of the logarithm of a variance, on both sides: its exponential stays finite


class VariationalAutoencoder(ArticleAutoencoder):
    """The article's network with a mean and a variance for each latent number."""

    def __init__(self, image_size: int, latent_dim: int) -> None:
        """Builds the layers, see `ArticleAutoencoder`."""
        super().__init__(image_size, latent_dim)
        last = self.encoder[-1]
        assert isinstance(last, nn.Linear)
        self.encoder[-1] = nn.Linear(last.in_features, 2 * latent_dim)

    def forward(self, given: Tensor, mask: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        """Maps (N, 3, S, S) in [0, 1] to (N, 3, S, S) float32 in [0, 1]; ignores the mask.

        In training the latent vectors are drawn, and the divergence, (N,) in nats, is returned, too; otherwise they are
        the means.
        """
        mean, log_variance = self._posterior(given)
        if not self.training:
            return self.decode(mean)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decode(drawn), _divergence(mean, log_variance)

    def encode(self, given: Tensor, mask: Tensor) -> Tensor:
        """Returns the means of the latent vectors, (N, latent_dim)."""
        return self._posterior(given)[0]

    def divergence(self, given: Tensor) -> Tensor:
        """Returns the divergence (Kullback and Leibler's) from a standard normal distribution in nats, (N,)."""
        return _divergence(*self._posterior(given))

    def _posterior(self, given: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(given).float().chunk(2, 1)
        return mean, log_variance.clamp(-_WIDEST, _WIDEST)


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
