"""The losses: the same as torch's for every output that a network can have, and NaN for one that has diverged."""

import pytest
import torch
import torch.nn.functional as F

from faceae.training.losses import LOSSES, guarded_bce

NAN = float("nan")


def logits():
    """Random ones, and some whose sigmoid is 0 or 1."""
    torch.manual_seed(0)
    return torch.cat([torch.randn(3, 3, 8, 8) * 5, torch.full((1, 3, 8, 8), 200.0), torch.full((1, 3, 8, 8), -200.0)])


def with_gradient(loss):
    given = logits().requires_grad_()
    value = loss(torch.sigmoid(given), torch.rand(given.shape, generator=torch.Generator().manual_seed(1)))
    value.backward()
    return [each.view(torch.int32) for each in (value.detach(), given.grad)]


@pytest.mark.parametrize("bce", [guarded_bce, lambda output, original: LOSSES["bce"](output, original, None)])
def test_the_cross_entropy_has_the_bits_of_torchs(bce):
    assert all(map(torch.equal, with_gradient(bce), with_gradient(F.binary_cross_entropy)))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("wrong", [NAN, float("inf")])
def test_an_output_that_is_not_finite_gives_such_a_loss_and_no_error(name, wrong):
    output, original, mask = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.5), torch.ones(2, 1, 4, 4)
    output[1, 2, 3, 3] = wrong
    assert not LOSSES[name](output.requires_grad_(), original, mask).isfinite()


def test_an_output_that_exceeds_1_by_a_rounding_error_is_accepted():
    output = torch.full((1, 3, 4, 4), 1.0000001)
    assert output.max() > 1
    assert LOSSES["bce"](output, torch.ones_like(output), None) == 0
