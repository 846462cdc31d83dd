"""Convolutions with a stride: PyTorch's and timm's numbers and gradients, on images of any side."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from poison_and_defend.lightning_modules.networks.strided import Strided


@pytest.mark.parametrize(
    ("kind", "groups", "padding"),
    [(nn.Conv2d, 6, None), (nn.Conv2d, 6, 0), (Conv2dSame, 6, 0), (Conv2dSame, 1, 0), (Conv2dSame, 3, 0)],
)
@pytest.mark.parametrize(
    ("kernel", "stride", "side"), [(2, 2, 8), (3, 2, 9), (3, 2, 8), (4, 2, 9), (5, 2, 11), (5, 3, 10), (7, 4, 12), (2, 3, 8)]
)
def test_results_and_gradients_are_pytorchs(kind, groups, padding, kernel, stride, side) -> None:
    padding = (kernel - 1) // 2 if padding is None else padding
    own = kind(6, 6, kernel, stride=stride, padding=padding, groups=groups).double().requires_grad_(False)
    assert Strided.fits(own)
    quick = Strided(own)
    images = torch.randn(2, 6, side, side + 1, dtype=torch.float64, requires_grad=True)
    given = torch.randn(own(images).shape, dtype=torch.float64)
    results = [(one(images), torch.autograd.grad(one(images), images, given)[0]) for one in (own, quick)]
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_padding_of_all_but_one_of_the_kernel_has_the_gradient_too() -> None:
    own = nn.Conv2d(4, 4, 3, stride=2, padding=2, groups=4).double().requires_grad_(False)
    images = torch.randn(1, 4, 7, 8, dtype=torch.float64, requires_grad=True)
    found, wanted = Strided(own)(images), own(images)
    torch.testing.assert_close(found, wanted)
    pair = [torch.autograd.grad(one.square().sum(), images, retain_graph=True)[0] for one in (found, wanted)]
    torch.testing.assert_close(*pair)


@pytest.mark.parametrize(
    "options",
    [{"groups": 1}, {"stride": 1}, {"dilation": 2}, {"padding_mode": "reflect"}, {"kernel_size": (3, 5)}, {"padding": 3}],
)
def test_other_convolutions_are_left_alone(options) -> None:
    usual = {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 6}
    assert not Strided.fits(nn.Conv2d(6, 6, **(usual | options)))
