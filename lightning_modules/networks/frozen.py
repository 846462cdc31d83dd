"""The form of a frozen network that its device computes fastest: batch normalization folded, half precision, channels last."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.strided import Strided

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
    """Exchange convolutions with a stride for quicker ones, and let activations keep their input; in place."""
    for name, module in list(model.body.named_modules()):
        if getattr(module, "inplace", False):
            # Autograd needs what an activation overwrites, and copies it first: twice the memory traffic for the same numbers.
            module.inplace = False
        if isinstance(module, nn.Conv2d) and Strided.fits(module):
            model.body.set_submodule(name, Strided(module))
    return model
