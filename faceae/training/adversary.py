"""A critic that learns to tell a filled hole from the original, so that the network learns to fill it sharply.

A squared error is least for the mean of all that may have been in the hole, and a mean is blurred. The critic sees the
same window of the original and of the composite and learns which is which, everywhere in the hole. The network learns
to deceive it, and to have the critic's features of the composite near to those of the original.

The losses are those of Huang et al. (The GAN is dead; long live the GAN!, 2024, arxiv.org/abs/2501.05441):
relativistic, with penalties on the critic's gradients at originals and at composites (R1 and R2; Mescheder et al.,
2018), without which the two do not settle. Feature matching is that of Wang et al. (pix2pixHD, 2018,
arxiv.org/abs/1711.11585).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceae.metrics import composite
from faceae.models.unet import place, window_around
from faceae.training.collectives import average

DECEIT, FEATURES = 0.05, 0.3
"""Weights of the two losses beside the squared error of the loss `hole`; 0.1 and 0.1 left a grid of blocks."""

_LR = 0.002
_BETAS = (0.0, 0.99)  # without momentum, as is usual where the opponent changes with every step
_PENALTY = 0.02
_PENALTY_STEPS = 8  # between two penalties, each with so many times the weight (Karras et al., 2020): they are slow


class Windows(NamedTuple):
    """What the critic sees of a batch.

    Attributes:
        real: (N, 4, w, w): the colours of the originals, and the hole, 1 inside and 0 outside; less 0.5.
        fake: (N, 4, w, w): the same of the composites.
    """

    real: Tensor
    fake: Tensor


class Critic(nn.Module):
    """Says of each place in a window how real it looks."""

    def __init__(self) -> None:
        super().__init__()
        # Without the first layer, at full resolution, fills are a twelfth less sharp after as many steps.
        self.layers = nn.ModuleList(
            nn.Sequential(layer, nn.LeakyReLU(0.2))
            for layer in (
                nn.Conv2d(4, 16, 3, padding=1),
                nn.Conv2d(16, 32, 4, stride=2, padding=1),
                nn.Conv2d(32, 64, 4, stride=2, padding=1),
                nn.Conv2d(64, 128, 4, stride=2, padding=1),
            )
        )
        self.judge = nn.Conv2d(128, 1, 3, padding=1)

    def forward(self, window: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judges windows.

        Args:
            window: (N, 4, w, w), see `Windows`.

        Returns:
            (N, 1, w / 8, w / 8) float32, larger where it looks more like an original, and the features of each layer.
        """
        features = []
        for layer in self.layers:
            window = layer(window)
            features.append(window)
        return self.judge(window).float(), features


class Adversary:
    """The critic in training.

    Attributes:
        critic: the critic. Created from torch's random numbers, so that all ranks of a seed begin with the same.
    """

    def __init__(self, window: int, device: torch.device) -> None:
        """Builds the critic.

        Args:
            window: side in pixels of the windows that it sees.
            device: where the network is.
        """
        self.critic = Critic().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.critic.parameters(), _LR, _BETAS, fused=True)
        self.window = window
        self.steps = 0

    def windows(self, output: Tensor, original: Tensor, mask: Tensor) -> Windows:
        """Cuts the window around each hole, the same that the U-Net sees.

        Shifted windows leave the network's own grid in its fills, as dots: the critic then knows no fixed places.

        Args:
            output: (N, 3, S, S), what the network returned.
            original: (N, 3, S, S).
            mask: (N, 1, S, S), 1 inside the hole.
        """
        grid = place(*window_around(mask, self.window), self.window)
        real, fake = (
            F.grid_sample(torch.cat([image, mask], 1) - 0.5, grid, align_corners=False)
            for image in (original, composite(output, original, mask))
        )
        return Windows(real, fake)

    def loss(self, windows: Windows, *, bf16: bool) -> Tensor:
        """Returns what the network is to reduce beside its own loss: scalar, the mean over the batch."""
        self.critic.requires_grad_(False)
        with self._autocast(bf16):
            (real, features), (fake, wrong) = (self.critic(window) for window in windows)
        self.critic.requires_grad_(True)
        apart = [F.l1_loss(one.float(), other.float()) for one, other in zip(wrong, features, strict=True)]
        return DECEIT * _mean_in_hole(F.softplus(real - fake), windows) + FEATURES * torch.stack(apart).mean()

    def step(self, windows: Windows, weight: float, *, bf16: bool) -> None:
        """Trains the critic; its gradients are averaged over ranks.

        Args:
            windows: what `windows` returned.
            weight: the batch's share of the global batch, times the number of ranks.
            bf16: whether the critic runs in bfloat16.
        """
        penalised = self.steps % _PENALTY_STEPS == 0
        seen = [window.detach().requires_grad_(penalised) for window in windows]
        with self._autocast(bf16 and not penalised):  # too coarse for derivatives of derivatives
            real, fake = (self.critic(window)[0] for window in seen)
        loss = _mean_in_hole(F.softplus(fake - real), windows)
        if penalised:
            slopes = _slope(real, seen[0]) + _slope(fake, seen[1])
            loss = loss + _PENALTY_STEPS * _PENALTY / 2 * slopes
        self.optimizer.zero_grad(set_to_none=True)
        (weight * loss).backward()
        average([each.grad for each in self.critic.parameters() if each.grad is not None])
        self.optimizer.step()
        self.steps += 1

    def _autocast(self, bf16: bool) -> torch.autocast:
        return torch.autocast(next(self.critic.parameters()).device.type, torch.bfloat16, bf16)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint holds of it."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


def _mean_in_hole(judged: Tensor, windows: Windows) -> Tensor:
    """Returns the mean over the batch of each image's mean where its hole is, of (N, 1, h, w)."""
    hole = F.adaptive_avg_pool2d(windows.real[:, 3:].detach() + 0.5, (judged.shape[2], judged.shape[3]))
    return ((judged * hole).sum((1, 2, 3)) / hole.sum((1, 2, 3))).mean()


def _slope(judged: Tensor, window: Tensor) -> Tensor:
    """Returns the mean squared norm of the gradient of each judgement by the window's colours."""
    (slope,) = torch.autograd.grad(judged.mean((1, 2, 3)).sum(), window, create_graph=True)
    return slope[:, :3].square().sum((1, 2, 3)).mean()
