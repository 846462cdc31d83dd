"""Derivatives of derivatives: which networks have them, and how attention must be computed so that it has."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.core.errors import InputError


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Attention in the arithmetic of its definition: the fused kernels have a first derivative alone."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def refuse_once_differentiable(model: Surrogate, shape: tuple[int, int, int], name: str, attack: str, option: str) -> None:
    """Refuse a surrogate for gradient matching whose gradient by its parameters has no derivative by the images.

    Args:
        model: It is put in evaluation mode, as surrogates are while poisons are crafted.
        shape: ``(C, H, W)`` of the images.
        name: What the network is called.
        attack: What needs the derivative.
        option: What the user should change.

    Raises:
        InputError: Naming the network and the module in it that stands in the way.
    """
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    model.eval()
    inputs = _leaf_inputs(model, images)
    try:
        _differentiate(model, images, list(model.parameters()))
    except (RuntimeError, NotImplementedError) as error:
        where = next((found for found in map(_refusing, inputs) if found), " ".join(str(error).split())[:200])
        raise InputError(
            f"{attack} differentiates its surrogates twice, and {name} cannot be: {where}; choose another network ({option})"
        ) from error


def _differentiate(module: Any, inputs: Tensor, parameters: list[nn.Parameter]) -> None:
    own = inputs.detach().requires_grad_()
    with torch.enable_grad(), twice_differentiable():
        loss = functional.softplus(module(own)).sum()
        wanted: list[Tensor] = [parameter for parameter in parameters if parameter.requires_grad] or [own]
        first = torch.autograd.grad(loss, wanted, create_graph=True, allow_unused=True)
        total = [gradient.square().sum() for gradient in first if gradient is not None and gradient.requires_grad]
        if total:
            torch.autograd.grad(torch.stack(total).sum(), own, allow_unused=True)


@torch.no_grad()
def _leaf_inputs(model: nn.Module, images: Tensor) -> list[tuple[str, nn.Module, Tensor]]:
    """Innermost modules without parameters, of each kind the first, with what they are given."""
    found: dict[type, tuple[str, nn.Module, Tensor]] = {}
    hooks = []
    for name, module in model.named_modules():
        if not any(True for _ in module.children()) and type(module) is not nn.Identity:

            def keep(own: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                if inputs and isinstance(inputs[0], Tensor):
                    found.setdefault(type(own), (name, own, inputs[0].detach().clone()))

            hooks.append(module.register_forward_pre_hook(keep))
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def _refusing(part: tuple[str, nn.Module, Tensor]) -> str | None:
    name, module, inputs = part
    try:
        _differentiate(module, inputs, [])
    except (RuntimeError, NotImplementedError):
        return f"its {type(module).__name__} ({name}) has no second derivative"
    return None
