"""The form of a frozen network that its device computes fastest: batch normalization folded, half precision, channels last."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from poison_and_defend.lightning_modules.networks.base import Classifier

# What folding may change of features, in their largest magnitude: rounding, and no more.
_ROUNDING = 1e-3


def fastest_precision(device: torch.device) -> torch.dtype:
    """``bfloat16`` where the device multiplies it faster than single precision, else ``float32``."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.float32


def frozen_form(model: Classifier, channels: int, side: int, device: torch.device) -> Classifier:
    """A copy of a network, for features alone, that computes them as fast as the device can.

    Features and gradients of images are those of the network up to rounding; parameters are not trained, and their names and
    number change.

    Args:
        model: In evaluation mode it gives the features that are wanted.
        channels: Of the images that it will read.
        side: Height and width of these images.
        device: Where it will compute.
    """
    images = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))
    plain = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    folded = _if_alike(_with_quick_gradients(copy.deepcopy(fold_batch_norm(plain, images))), plain, images)
    precision = fastest_precision(device)
    folded.body.to(precision).to(memory_format=torch.channels_last)
    folded.precision = precision
    if folded.size is not None and folded.size != side:
        columns = torch.eye(side).view(side, 1, side, 1).expand(side, 1, side, side)
        resized = functional.interpolate(columns, (folded.size, side), mode=folded.interpolation, antialias=True)
        folded.resizing = resized[:, 0, :, 0].T.contiguous()
    return folded.to(device)


@torch.no_grad()
def fold_batch_norm(model: Classifier, images: Tensor) -> Classifier:
    """Write each batch normalization that directly follows a convolution into it.

    Which follows which is seen in one pass, so that any network can be asked. Where the result has other features, as when a
    convolution is used twice or something else looks at it, the network is returned as it is.

    Args:
        model: In evaluation mode.
        images: ``(N, C, H, W)`` float in [0, 1].

    Returns:
        A copy, or the model itself.
    """
    folded = copy.deepcopy(model)
    names = {module: name for name, module in folded.body.named_modules()}
    for convolution, norm in _pairs(folded, images):
        folded.body.set_submodule(names[convolution], fuse_conv_bn_eval(convolution, norm))
        folded.body.set_submodule(names[norm], _after(norm))
    return _if_alike(folded, model, images)


@torch.no_grad()
def _if_alike(changed: Classifier, model: Classifier, images: Tensor) -> Classifier:
    found, wanted = changed.features(images), model.features(images)
    alike = found.shape == wanted.shape and bool((found - wanted).abs().max() <= _ROUNDING * wanted.abs().max())
    return changed if alike else model


def _pairs(model: Classifier, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the normalizations that get their very outputs."""
    # The outputs are kept while it runs, so that no two have one identity.
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: dict[nn.Conv2d, nn.BatchNorm2d] = {}

    def after_convolution(module: nn.Module, inputs: Any, output: Any) -> None:
        assert isinstance(module, nn.Conv2d)
        made[id(output)] = module, output

    def before_norm(module: nn.Module, inputs: Any) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if id(inputs[0]) in made and module.running_mean is not None:
            pairs[made[id(inputs[0])][0]] = module

    handles = []
    for module in model.body.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after_convolution))
        elif type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d":
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        model.features(images)
    finally:
        for handle in handles:
            handle.remove()
    return list(pairs.items())


def _after(norm: nn.Module) -> nn.Module:
    """What a normalization does besides: timm's is followed by its activation."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    drop, activation = norm.drop, norm.act
    assert isinstance(drop, nn.Module) and isinstance(activation, nn.Module)
    return nn.Sequential(drop, activation)


def _with_quick_gradients(model: Classifier) -> Classifier:
    """Exchange strided depthwise convolutions of the body, and let activations keep their input; in place."""
    for name, module in list(model.body.named_modules()):
        if getattr(module, "inplace", False):
            # Autograd needs what an activation overwrites, and copies it first: twice the memory traffic for the same numbers.
            module.inplace = False
        if isinstance(module, nn.Conv2d) and StridedDepthwise.fits(module):
            model.body.set_submodule(name, StridedDepthwise(module))
    return model


class StridedDepthwise(nn.Module):
    """A depthwise convolution with a stride, whose gradient for images is one too, over the gradient with zeros between.

    PyTorch's own is more than ten times slower on CPUs in half precision, most of the time of a backward pass through a mobile
    network. There is no gradient for the weights.

    Args:
        convolution: Depthwise, square, with a stride, and not dilated.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride = convolution.stride[0]
        # timm's Conv2dSame pads by itself as TensorFlow does, and its own padding is 0.
        self.same = type(convolution).__name__ == "Conv2dSame"
        self.padding = int(convolution.padding[0])

    @staticmethod
    def fits(convolution: nn.Conv2d) -> bool:
        """Whether a convolution is depthwise, square, strided, and not dilated."""
        known = type(convolution) is nn.Conv2d or type(convolution).__name__ == "Conv2dSame"
        depthwise = convolution.groups == convolution.in_channels == convolution.out_channels > 1
        numbers = (convolution.kernel_size, convolution.stride, convolution.padding)
        square = all(isinstance(pair, tuple) and len(set(pair)) == 1 for pair in numbers)
        plain = convolution.padding_mode == "zeros" and set(convolution.dilation) == {1}
        fitting = square and convolution.stride[0] > 1 and convolution.kernel_size[0] > int(convolution.padding[0])
        return known and depthwise and plain and fitting

    def forward(self, images: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C, H', W')``."""
        padding = self.padding
        if self.same:
            images, padding = _padded_as_tensorflow(images, self.weight.shape[-1], self.stride), 0
        outputs: Tensor = _Strided.apply(images, self.weight, self.bias, self.stride, padding)
        return outputs


def _padded_as_tensorflow(images: Tensor, kernel: int, stride: int) -> Tensor:
    height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (images.shape[-2], images.shape[-1]))
    if height == width == 0:
        return images
    return functional.pad(images, (width // 2, width - width // 2, height // 2, height - height // 2))


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.padding, ctx.sides = stride, padding, images.shape[-2:]
        return functional.conv2d(images, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        kernel, padding = weight.shape[-1], ctx.padding
        height, width = (side + 2 * padding - kernel + 1 for side in ctx.sides)
        spread = gradient.new_zeros(len(gradient), height, width, gradient.shape[1]).permute(0, 3, 1, 2)
        spread[..., :: ctx.stride, :: ctx.stride] = gradient
        own = functional.conv2d(spread, weight.flip(2, 3), padding=kernel - 1 - padding, groups=len(weight))
        return own, None, None, None, None
