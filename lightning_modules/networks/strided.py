"""Convolutions with a stride, of frozen networks: the same numbers, with less written to memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_Padding = tuple[tuple[int, int], tuple[int, int]]


class Strided(nn.Module):
    """A convolution with a stride whose padding is never written out, with a quick gradient for images where it is depthwise.

    A padding that is larger behind the image than before it, as TensorFlow pads, is one of equal sides with a kernel that
    begins with zeros. The gradient of a depthwise convolution for images is another, over the gradient with zeros between:
    PyTorch's own is more than ten times slower on CPUs in half precision, most of the time of a backward pass through a mobile
    network. There is no gradient for the weights.

    Args:
        convolution: One that :meth:`fits`.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride, self.depthwise = convolution.stride[0], _is_depthwise(convolution)
        # timm's Conv2dSame pads by itself as TensorFlow does, and its own padding is 0.
        self.same = type(convolution).__name__ == "Conv2dSame"
        self.padding = int(convolution.padding[0])

    @staticmethod
    def fits(convolution: nn.Conv2d) -> bool:
        """Whether it is square, strided, not dilated, and padded with zeros; and depthwise, or padded as TensorFlow does."""
        same = type(convolution).__name__ == "Conv2dSame"
        numbers = (convolution.kernel_size, convolution.stride, convolution.padding)
        square = all(isinstance(pair, tuple) and len(set(pair)) == 1 for pair in numbers)
        plain = convolution.padding_mode == "zeros" and set(convolution.dilation) == {1}
        fitting = square and convolution.stride[0] > 1 and convolution.kernel_size[0] > int(convolution.padding[0])
        return plain and fitting and (same or (_is_depthwise(convolution) and type(convolution) is nn.Conv2d))

    def forward(self, images: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C', H', W')``."""
        height, width = (self._around(side) for side in images.shape[-2:])
        if not self.depthwise:
            return _convolved(images, self.weight, self.bias, self.stride, (height, width))
        outputs: Tensor = _Depthwise.apply(images, self.weight, self.bias, self.stride, (height, width))
        return outputs

    def _around(self, side: int) -> tuple[int, int]:
        if not self.same:
            return self.padding, self.padding
        whole = max((-(-side // self.stride) - 1) * self.stride + self.weight.shape[-1] - side, 0)
        return whole // 2, whole - whole // 2


def _is_depthwise(convolution: nn.Conv2d) -> bool:
    return convolution.groups == convolution.in_channels == convolution.out_channels > 1


def _convolved(images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: _Padding) -> Tensor:
    (top, bottom), (left, right) = padding
    weight = functional.pad(weight, (right - left, 0, bottom - top, 0))
    return functional.conv2d(images, weight, bias, stride, (bottom, right), groups=images.shape[1] // weight.shape[1])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: _Padding) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.padding, ctx.sides = stride, padding, images.shape[-2:]
        return _convolved(images, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        last = weight.shape[-1] - 1
        # The convolution's own padding, as much of it as possible; what is left of each side is written out with the zeros.
        inner = [min(last // 2, last - max(around)) for around in ctx.padding]
        height, width = (side + last - 2 * own for side, own in zip(ctx.sides, inner, strict=True))
        spread = gradient.new_zeros(len(gradient), height, width, gradient.shape[1]).permute(0, 3, 1, 2)
        rows, columns = (
            slice(last - around[0] - own, last - around[0] - own + ctx.stride * count, ctx.stride)
            for around, own, count in zip(ctx.padding, inner, gradient.shape[-2:], strict=True)
        )
        spread[..., rows, columns] = gradient
        own = functional.conv2d(spread, weight.flip(2, 3), padding=tuple(inner), groups=len(weight))
        return own, None, None, None, None
