"""Whether members of an ensemble can be one ``torch.func`` call: not every operation can be batched over networks."""

import copy
import logging

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

State = dict[str, Tensor]

_log = logging.getLogger("poison_and_defend")


def can_be_stacked(template: nn.Module, parameters: State, buffers: State, inputs: Tensor) -> bool:
    """Try one step of a block's members on two of their inputs, as in training and as in prediction; says so if it fails.

    Args:
        template: What members are instances of; left as it is.
        parameters: Stacked along a leading dimension of members.
        buffers: Stacked likewise; left as they are.
        inputs: ``(m, B, ...)`` float.
    """
    network = copy.deepcopy(template)
    own = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}

    def one(weights: State, statistics: State, images: Tensor) -> Tensor:
        result: Tensor = functional_call(network, (weights, statistics), (images,))
        return result

    few = inputs[:, :2].detach()
    devices = [few.device] if few.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            with torch.enable_grad():
                network.train(template.training)
                copies = {name: value.clone() for name, value in buffers.items()}
                outputs = vmap(one, randomness="different")(own, copies, few)
                torch.autograd.grad(outputs.sum(), list(own.values()), allow_unused=True)
            with torch.no_grad():
                network.eval()
                vmap(one, randomness="different")(own, copies, few)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        _log.warning("networks of this kind cannot be batched and are trained one after another: %s", reason)
        return False
    return True
