"""The form of a denoiser that a CPU computes gradients through fastest, in half precision."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.diffusion.denoiser import Denoiser


def gradient_form(denoiser: Denoiser) -> Denoiser:
    """A copy in bfloat16 and channels last, whose gradients are no slower than its arithmetic.

    Two kinds of layers of a diffusers network spoil that on CPUs: the backward passes of PyTorch's normalization of groups,
    channels last, and of its fused attention are ten to sixty times as slow in half precision as they need be. Their place is
    taken by what computes the same.

    Args:
        denoiser: In evaluation mode, with frozen weights; it is left as it is.

    Returns:
        Estimates and gradients of images are those of the denoiser up to half precision.
    """
    # diffusers takes seconds to import, and who has a denoiser has paid that.
    from diffusers.models.attention_processor import Attention, AttnProcessor

    form = copy.deepcopy(denoiser)
    for name, module in list(form.unet.named_modules()):
        if type(module) is nn.GroupNorm:
            form.unet.set_submodule(name, GroupNorm(module))
        elif isinstance(module, Attention):
            module.set_processor(AttnProcessor())
    # The network's own method warns of layers that are to stay in single precision, even where there are none.
    nn.Module.to(form.unet, torch.bfloat16)
    nn.Module.to(form.unet, memory_format=torch.channels_last)
    return form


class GroupNorm(nn.Module):
    """A group normalization with a quick gradient of images, channels last; there is none for weights.

    Args:
        norm: Whose weights it shares, with scale and shift.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.groups, self.eps = norm.num_groups, norm.eps

    def forward(self, images: Tensor) -> Tensor:
        """``(N, C, H, W)``, or ``(N, C, ...)`` the usual way, to the same."""
        if images.dim() != 4:
            return functional.group_norm(images, self.groups, self.weight, self.bias, self.eps)
        last = images.contiguous(memory_format=torch.channels_last)
        outputs: Tensor = _Normalized.apply(last, self.weight, self.bias, self.groups, self.eps)
        return outputs


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        number, channels, height, width = images.shape
        made, mean, rstd = torch.native_group_norm(images, weight, bias, number, channels, height * width, groups, eps)
        ctx.save_for_backward(images, weight, mean, rstd)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        images, weight, mean, rstd = ctx.saved_tensors
        number, channels, height, width = images.shape
        wide = torch.promote_types(images.dtype, torch.float32)
        rows, given = (values.permute(0, 2, 3, 1).reshape(number, -1, channels) for values in (images, gradients[0]))
        mean, rstd, scale = mean.view(number, -1).to(wide), rstd.view(number, -1).to(wide), weight.to(wide)
        groups = mean.shape[1]
        count = rows.shape[1] * channels // groups

        def of_groups(values: Tensor) -> Tensor:
            means: Tensor = (values.sum(1, dtype=wide) * scale).view(number, groups, -1).sum(-1) / count
            return means

        def of_channels(values: Tensor) -> Tensor:
            return values.repeat_interleave(channels // groups, 1)

        # With x^ = (x - mean) rstd and g = dy * scale: dx = rstd (g - mean(g) - x^ mean(g x^)), means over a group.
        shared, along = of_groups(given), of_groups(given * rows)
        along = (along - mean * shared) * rstd.square()
        terms = of_channels(rstd) * scale, of_channels(-rstd * along), of_channels(rstd * (mean * along - shared))
        factor, slope, shift = (term.to(images.dtype).unsqueeze(1) for term in terms)
        own = torch.addcmul(torch.addcmul(shift, rows, slope), given, factor)
        return own.view(number, height, width, channels).permute(0, 3, 1, 2), None, None, None, None
