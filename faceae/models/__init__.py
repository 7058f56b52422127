"""The networks, and how they are built by name, saved and loaded.

Every network takes the image as the task gives it (see `faceae.tasks`) and the mask, and returns the whole image:

    network(given, mask) -> output
    given   (N, 3, S, S) float in [0, 1]; for inpainting 0 inside the hole
    mask    (N, 1, S, S) float, 1 where the network is asked for the image, as inside the hole, and 0 elsewhere
    output  (N, 3, S, S) float32 in [0, 1]

In training a variational autoencoder returns the divergence of its latent vectors beside the image, see `vae`, and a
network of --task repair where it thinks that something is wrong, see `repair`.
"""

from faceae.models.article import ArticleAutoencoder
from faceae.models.files import build, load, load_weights, save, weights
from faceae.models.frame import FrameUnet
from faceae.models.restorer import Restorer
from faceae.models.surroundings import SurroundingsModel
from faceae.models.vae import VariationalAutoencoder

__all__ = [
    "ArticleAutoencoder",
    "FrameUnet",
    "Restorer",
    "SurroundingsModel",
    "VariationalAutoencoder",
    "build",
    "load",
    "load_weights",
    "save",
    "weights",
]
