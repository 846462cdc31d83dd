"""Gradients of single rows, each multiplied by a factor that depends on its norm, and their mean: what DP-SGD descends."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

State = dict[str, Tensor]
Factors = Callable[[Tensor], Tensor]

# A row's gradient is as many numbers as there are parameters, for every row of a chunk: half a gigabyte at most.
_CHUNK_NUMBERS = 2**27


def network_row_gradients(
    template: nn.Module, parameters: Mapping[str, Tensor], buffers: State, inputs: Tensor, targets: Tensor, factors: Factors
) -> tuple[State, Tensor]:
    """Mean over rows of ``factor * gradient`` of one network, and the rows' losses ``(B,)``.

    Args:
        template: Module of the network, in the mode in which its gradients are taken.
        parameters: Its own, by name.
        buffers: Its own, by name.
        inputs: ``(B, C, H, W)`` float.
        targets: ``(B, K)`` shares of the classes.
        factors: Norms of the gradients of some rows ``(b,)`` to their factors.
    """

    def loss(own: State, image: Tensor, target: Tensor) -> Tensor:
        logits = functional_call(template, (own, buffers), (image[None],)).float()
        return -(target * logits.log_softmax(-1)[0]).sum()

    # vmap over rows is a grouped convolution a layer, whose groups are the rows.
    each = vmap(grad_and_value(loss), in_dims=(None, 0, 0), randomness="different")
    own = {name: value.detach() for name, value in parameters.items()}
    total, losses = {name: torch.zeros_like(value) for name, value in own.items()}, []
    for rows in _chunks(len(inputs), sum(value.numel() for value in own.values())):
        found: Any = each(own, inputs[rows].detach(), targets[rows])
        gradients, values = found
        norms = torch.stack([value.flatten(1).square().sum(1) for value in gradients.values()]).sum(0).sqrt()
        own_factors = factors(norms) / len(inputs)
        for name, value in gradients.items():
            total[name] += torch.tensordot(own_factors, value, 1)
        losses.append(values)
    return total, torch.cat(losses)


def _chunks(count: int, parameters: int) -> Iterator[slice]:
    size = max(1, _CHUNK_NUMBERS // parameters)
    return (slice(start, start + size) for start in range(0, count, size))


@torch.no_grad()
def head_row_gradients(parameters: State, inputs: Tensor, targets: Tensor, factors: Factors) -> tuple[State, Tensor]:
    """The same of m linear heads at once, in closed form: a row's gradient is its error times its features, and a one.

    Args:
        parameters: ``weight`` ``(m, K, F)`` and ``bias`` ``(m, K)``.
        inputs: ``(m, B, F)`` float.
        targets: ``(m, B, K)`` shares of the classes.

    Returns:
        ``(m, ...)`` by name, and losses ``(m, B)``.
    """
    weight, bias = parameters["weight"], parameters["bias"]
    scores = torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2)).log_softmax(2)
    errors = scores.exp() - targets
    norms = errors.norm(dim=2) * (inputs.square().sum(2) + 1).sqrt()
    errors = errors * (factors(norms) / inputs.shape[1])[..., None]
    return {"weight": errors.transpose(1, 2) @ inputs, "bias": errors.sum(1)}, -(targets * scores).sum(2)
