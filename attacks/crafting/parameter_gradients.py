"""Gradients by all parameters of a model, and by the images that shape them; the model itself is never touched."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from poison_and_defend.attacks.crafting.augmentation import augment
from poison_and_defend.attacks.crafting.second_order import twice_differentiable
from poison_and_defend.attacks.crafting.views import View
from poison_and_defend.attacks.threat.surrogate import Surrogate

Parameters = dict[str, Tensor]

# Per-sample gradients are as many numbers as there are parameters, for every image of a chunk: half a gigabyte at most.
_CHUNK_NUMBERS = 2**27

# Images that are differentiated through a defence at once: a denoiser holds megabytes for each, and a CPU's caches few.
_SEEN_TOGETHER = 32


def _loss(parameters: Parameters, buffers: Parameters, model: Surrogate, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(functional_call(model, (parameters, buffers), (images,)), labels)


def _leaves(model: Surrogate) -> Parameters:
    """The model's parameters to differentiate by: the same memory, so that the model itself is left alone."""
    return {name: parameter.detach().requires_grad_() for name, parameter in model.named_parameters()}


def goal_gradient(
    model: Surrogate, images: Tensor, label: Tensor, batch_size: int, weights: Parameters | None = None
) -> Parameters:
    """Gradient of the mean loss of images ``(n, C, H, W)`` under one label ``()`` with respect to all parameters.

    Args:
        weights: Where it is taken, a value for each parameter; None for the model's own.
    """
    leaves = _leaves(model) if weights is None else {name: value.requires_grad_() for name, value in weights.items()}
    total = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for part in images.split(batch_size):
        loss = _loss(leaves, {}, model, part, label.expand(len(part))) * (len(part) / len(images))
        # A network of somebody else's may have parameters that its logits do not depend on.
        gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        for value, gradient in zip(total.values(), gradients, strict=True):
            value += gradient
    return total


def matching_gradient(
    model: Surrogate, images: Tensor, labels: Tensor, goal: Parameters, views: Sequence[View] = (View(),)
) -> tuple[Tensor, Tensor]:
    """dB/d(images) ``(k, C, H, W)`` and B ``()`` of one batch of poisons, by a double backward pass to the images alone.

    Through a defence the poisons' gradient is found first, and the way back in parts, each of a few images and one view:
    memory depends neither on how many draws there are nor on how many poisons.

    Args:
        images: ``(k, C, H, W)`` float.
        labels: ``(k,)`` int64.
        goal: The gradient to match, per parameter.
        views: Of these images as one setup; over several the poisons' gradient is averaged, and then compared.
    """
    leaves = _leaves(model)
    if len(views) > 1 or views[0].sanitized is not None:
        cotangent, value = _compared(_mean_gradient(model, leaves, images, labels, views), goal)
        gradient = torch.zeros_like(images)
        for view, rows in _in_parts(images, views):
            part = images[rows].detach().requires_grad_()
            own = _twice(model, leaves, part, labels[rows], view)
            share = len(rows) / len(images) / len(views)
            with twice_differentiable():
                (found,) = torch.autograd.grad(list(own.values()), [part], [share * cotangent[name] for name in own])
            gradient[rows] += found
        return gradient, value
    images = images.detach().requires_grad_()
    own = _twice(model, leaves, images, labels, views[0])
    cotangent, value = _compared(own, goal)
    with twice_differentiable():
        (gradient,) = torch.autograd.grad(list(own.values()), [images], list(cotangent.values()))
    return gradient, value


def _twice(model: Surrogate, leaves: Parameters, images: Tensor, labels: Tensor, view: View) -> Parameters:
    """Gradient by the parameters that the loss depends on, which can be differentiated by the images."""
    with twice_differentiable():
        # In here too: a checkpointed defence is computed again within the backward pass that follows, by the same kernels.
        loss = _loss(leaves, {}, model, view.see(images[None])[0], labels)
        every = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, allow_unused=True)
    return {name: gradient for name, gradient in zip(leaves, every, strict=True) if gradient is not None}


@torch.no_grad()
def _compared(own: Parameters, goal: Parameters) -> tuple[Parameters, Tensor]:
    """dB/d(own) in closed form, which is what autograd would find without a graph over all parameters, and B."""
    dot, length, other = _products(list(own.values()), [goal[name] for name in own])
    inverse = 1 / (length * other)
    return {name: (dot / length.square() * g - goal[name]) * inverse for name, g in own.items()}, 1 - dot * inverse


def _in_parts(images: Tensor, views: Sequence[View]) -> Iterator[tuple[View, Tensor]]:
    """Views of a few of one setup's images each, and which these are."""
    for view in views:
        for rows in torch.arange(len(images), device=images.device).split(_SEEN_TOGETHER):
            yield view.part(0, rows), rows


def _mean_gradient(model: Surrogate, leaves: Parameters, images: Tensor, labels: Tensor, views: Sequence[View]) -> Parameters:
    """The loss's gradient by the parameters, averaged over views, without a way back to the images."""
    total = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for view, rows in _in_parts(images, views):
        with torch.no_grad():
            seen = view.see(images[rows][None])[0]
        loss = _loss(leaves, {}, model, seen, labels[rows]) * (len(rows) / len(images) / len(views))
        gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        for value, gradient in zip(total.values(), gradients, strict=True):
            value += gradient
    return total


def _products(own: Sequence[Tensor], wanted: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Inner product and both norms; a poison set that is fitted perfectly has no direction, but must not give NaN."""
    dot = torch.stack([(g * t).sum() for g, t in zip(own, wanted, strict=True)]).sum()
    lengths = [torch.stack([g.square().sum() for g in side]).sum().clamp_min(1e-30).sqrt() for side in (own, wanted)]
    return dot, lengths[0], lengths[1]


def loop_gradients(
    models: Sequence[Sequence[Surrogate]],
    goals: Sequence[Sequence[Parameters]],
    poisons: Tensor,
    labels: Tensor,
    views: Sequence[View],
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """dB/d(poison) of every lane, averaged over its surrogates, and B; lane by lane, the fastest on a CPU.

    Args:
        models: Per lane its surrogates.
        goals: Per lane and surrogate the parameters' gradients to match.
        poisons: ``(L, k, C, H, W)`` float.
        labels: ``(L, k)`` int64.
        views: Each of all lanes.
        batch_size: Poisons that are matched, and differentiated, together.
    """
    total, objective = torch.zeros_like(poisons), poisons.new_zeros(len(poisons))
    for lane, rows, number, piece in _pieces(models, goals, poisons, labels, views, batch_size):
        gradient, value = matching_gradient(*piece)
        total[lane, rows] += gradient / number
        objective[lane] += value * (len(rows) / poisons.shape[1] / number)
    return total, objective


def matching_value(model: Surrogate, images: Tensor, labels: Tensor, goal: Parameters, views: Sequence[View]) -> Tensor:
    """B ``()`` as :func:`matching_gradient` has it, without a derivative."""
    return _compared(_mean_gradient(model, _leaves(model), images, labels, views), goal)[1]


def loop_values(
    models: Sequence[Sequence[Surrogate]],
    goals: Sequence[Sequence[Parameters]],
    poisons: Tensor,
    labels: Tensor,
    views: Sequence[View],
    batch_size: int,
) -> Tensor:
    """B of every lane, ``(L,)``, as :func:`loop_gradients` has it."""
    objective = poisons.new_zeros(len(poisons))
    for lane, rows, number, piece in _pieces(models, goals, poisons, labels, views, batch_size):
        objective[lane] += matching_value(*piece) * (len(rows) / poisons.shape[1] / number)
    return objective


_Piece = tuple[Surrogate, Tensor, Tensor, Parameters, Sequence[View]]


def _pieces(
    models: Sequence[Sequence[Surrogate]],
    goals: Sequence[Sequence[Parameters]],
    poisons: Tensor,
    labels: Tensor,
    views: Sequence[View],
    batch_size: int,
) -> Iterator[tuple[int, Tensor, int, _Piece]]:
    """What is matched at once, one after another: its lane, its poisons, of how many surrogates, and all that it depends on."""
    for lane, (own_models, own_goals) in enumerate(zip(models, goals, strict=True)):
        for rows in torch.arange(poisons.shape[1], device=poisons.device).split(batch_size):
            own_views = [view.part(lane, rows) for view in views]
            for model, goal in zip(own_models, own_goals, strict=True):
                yield lane, rows, len(own_models), (model, poisons[lane, rows], labels[lane, rows], goal, own_views)


def stacked_gradients(
    models: Sequence[Sequence[Surrogate]],
    goals: Sequence[Sequence[Parameters]],
    poisons: Tensor,
    labels: Tensor,
    views: Sequence[View],
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """What :func:`loop_gradients` gives, by ``torch.func`` over as many lanes as hold ``batch_size`` poisons: for a GPU.

    The surrogates of one number are of one architecture in all lanes, and there is one view, an augmentation or nothing.
    """
    (view,) = views
    shifts = None if view.shifts is None else view.shifts.to(poisons.device)
    total, objective = torch.zeros_like(poisons), poisons.new_zeros(len(poisons))
    count = poisons.shape[1]
    for lanes in torch.arange(len(poisons)).split(max(1, batch_size // count)):
        for rows in torch.arange(count).split(batch_size):
            part = (lanes[:, None], rows[None])
            for number in range(len(models[0])):
                gradient, value = _stacked(
                    [models[lane][number] for lane in lanes.tolist()],
                    [goals[lane][number] for lane in lanes.tolist()],
                    poisons[part],
                    labels[part],
                    None if shifts is None else shifts[part],
                    view.max_shift,
                )
                total[part] += gradient / len(models[0])
                objective[lanes] += value * (len(rows) / count / len(models[0]))
    return total, objective


def _stacked(
    models: Sequence[Surrogate],
    goals: Sequence[Parameters],
    poisons: Tensor,
    labels: Tensor,
    shifts: Tensor | None,
    max_shift: float,
) -> tuple[Tensor, Tensor]:
    """Gradients and B of lanes with one model each, or all with the same, which is then not copied."""

    def state(model: Surrogate) -> tuple[Parameters, Parameters]:
        return {n: p.detach() for n, p in model.named_parameters()}, dict(model.named_buffers())

    def stack(many: Sequence[Parameters]) -> Parameters:
        return {name: torch.stack([one[name] for one in many]) for name in many[0]}

    shared = all(model is models[0] for model in models)
    states = [state(model) for model in (models[:1] if shared else models)]
    parameters, buffers = states[0] if shared else (stack([s[0] for s in states]), stack([s[1] for s in states]))

    def matching(
        images: Tensor, own: Any, labels: Tensor, own_shifts: Tensor | None, goal: Parameters
    ) -> tuple[Tensor, Tensor]:
        seen = images if own_shifts is None else augment(images, own_shifts, max_shift)
        gradients: Any = grad(_loss)(own[0], own[1], models[0], seen, labels)
        dot, length, other = _products([gradients[name] for name in goal], list(goal.values()))
        value = 1 - dot / (length * other)
        return value, value

    places = (0, None if shared else 0, 0, None if shifts is None else 0, 0)
    with twice_differentiable():
        found: tuple[Tensor, Tensor] = vmap(grad(matching, has_aux=True), in_dims=places)(
            poisons, (parameters, buffers), labels, shifts, stack(goals)
        )
    return found


def gradient_norms(model: Surrogate, images: Tensor, label: int) -> Tensor:
    """``(N,)``: for each image the norm, over all parameters, of the gradient of its own loss.

    Args:
        images: ``(N, C, H, W)`` float in [0, 1].
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    buffers = dict(model.named_buffers())
    labels = torch.tensor([label], device=images.device)

    def norm(image: Tensor) -> Tensor:
        gradients: Any = grad(_loss)(parameters, buffers, model, image[None], labels)
        return torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()

    chunk = max(1, min(512, _CHUNK_NUMBERS // sum(parameter.numel() for parameter in parameters.values())))
    with twice_differentiable():
        if not stackable(lambda: vmap(norm)(images[:2])):
            return torch.stack([norm(image) for image in images])
        found: Tensor = vmap(norm, chunk_size=chunk)(images)
    return found


def stackable(work: Callable[[], Any]) -> bool:
    """Whether ``torch.func`` can do some small work: not every operation can be batched."""
    try:
        work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    return True
