"""Weights at which a loss is nearly the worst within a radius: one normalised step uphill.

Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization" (ICLR 2021),
equation 2; for poisons He, Xu, Ren, Cui, Zeng, Liu, Aggarwal, Tang, "Sharpness-Aware Data Poisoning Attack" (ICLR 2024).
"""

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.parameter_gradients import Parameters, goal_gradient
from poison_and_defend.attacks.threat.surrogate import Surrogate


def sharp_goal_gradient(model: Surrogate, images: Tensor, label: Tensor, batch_size: int, radius: float) -> Parameters:
    """Gradient of the mean loss L of images ``(n, C, H, W)`` under one label ``()``, taken at moved weights.

    With ``g`` the gradient of L at the model's weights w it is the gradient of L at ``w + radius * g / ||g||``, the norm
    taken over all parameters together: to first order the weights within ``radius`` (l2) at which L is largest.

    Args:
        radius: At least 0, in the units of the weights; 0 gives :func:`goal_gradient` of the model itself, to the bit.
    """
    own = goal_gradient(model, images, label, batch_size)
    if radius == 0:
        return own
    length = torch.stack([value.square().sum() for value in own.values()]).sum().sqrt()
    # A loss that is flat has no uphill, and its weights stay; what is not finite stays so, for the caller to refuse.
    step = radius / length.clamp_min(torch.finfo(length.dtype).tiny)
    moved = {name: parameter.detach() + step * own[name] for name, parameter in model.named_parameters()}
    return goal_gradient(model, images, label, batch_size, moved)
