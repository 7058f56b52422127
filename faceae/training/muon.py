"""The optimizer Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon).

Not torch.optim.Muon: that takes no convolutions, and one matrix after the other, which costs a GPU a thousand kernels
for each step of the U-Net.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_LIKE_ADAM = 0.2
"""Size of Adam's steps, as a multiple of the learning rate (Liu et al., arxiv.org/abs/2502.16982)."""


class Muon(torch.optim.Optimizer):
    """Moves weights along their momentum made orthogonal, so that all directions are learned equally fast.

    A weight is a matrix of a row for each output; those of convolutions, (out, in, h, w), have in * h * w columns. All
    matrices of one shape are one batch.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.9) -> None:
        """Takes weights of two or more dimensions; a learning rate that suits Adam, or twice as much, suits them."""
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Takes a step along the gradients."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for weights in alike.values():
                self._move(weights, **group)

    def _move(self, weights: list[Tensor], lr: float, momentum: float, **_: Any) -> None:  # noqa: ANN401
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        momenta = [self.state[weight].setdefault("momentum", torch.zeros_like(weight)) for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, momenta, momentum)  # Nesterov's
        steps = orthogonal(torch.stack([each.flatten(1) for each in ahead]))
        lr *= _LIKE_ADAM * max(steps.shape[1:]) ** 0.5
        torch._foreach_add_(weights, [step.view_as(weights[0]) for step in steps], alpha=-lr)


def orthogonal(matrices: Tensor) -> Tensor:
    """Returns about the nearest matrices with orthonormal rows, or columns where there are fewer of these.

    Five iterations of a Newton-Schulz method, which brings all but the smallest singular values to between 0.7 and 1.2.

    Args:
        matrices: (N, rows, columns) float.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    # The polynomials of all iterations are multiplied first: they are small squares, x is several times as wide.
    product = identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    square = x @ x.mT
    for _ in range(5):
        polynomial = 3.4445 * identity + torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        product = polynomial @ product
        square = polynomial @ square @ polynomial
    x = product @ x
    return x.mT if tall else x


class Together:
    """Several optimizers, each of some of a network's weights, as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self._optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers."""
        return [group for each in self._optimizers for group in each.param_groups]

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Forgets all gradients."""
        for each in self._optimizers:
            each.zero_grad(set_to_none)

    def step(self) -> None:
        """Takes a step with each optimizer."""
        for each in self._optimizers:
            each.step()

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of all optimizers."""
        return {"optimizers": [each.state_dict() for each in self._optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        for each, saved in zip(self._optimizers, state["optimizers"], strict=True):
            each.load_state_dict(saved)
