"""Whether a network can do what is asked of it: one batch of two images, before anything is trained."""

import copy
import json

import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.foreign import Foreign, as_tensor, set_submodule
from poison_and_defend.lightning_modules.networks.spec import Network

Shape = tuple[int, int, int]


def takes_statistics(network: Network, channels: int) -> bool:
    """Whether a network normalizes by the data's mean or standard deviation, having no other of its own.

    The network itself is asked: what it is built with is looked for in what was built.
    """

    def own(level: float) -> list[float]:
        built = build_network(network, in_channels=channels, num_classes=2, mean=(level,) * channels, std=(level,) * channels)
        return [*built.mean.flatten().tolist(), *built.std.flatten().tolist()]

    return own(0.25) != own(0.5)


def check_network(
    network: Network, image_shape: Shape, num_classes: int, option: str = "--network", dropout: float = 0.0
) -> Classifier | None:
    """Build a network and try it on two images.

    Args:
        image_shape: ``(C, H, W)`` of the images that it is to read.
        num_classes: Outputs of its head.
        option: What sentences call it.
        dropout: Probability, between its blocks.

    Returns:
        The network, None for one of ours without options, of which nothing has to be tried.

    Raises:
        InputError: If it cannot be built, refuses such images, or is no body with a linear head.
    """
    if network.plain:
        return None
    try:
        json.dumps(network.options())
    except TypeError as error:
        raise InputError(f"arguments of {network.build} are {network.arguments}: {error} ({option}.arguments)") from error
    model = build_network(network, in_channels=image_shape[0], num_classes=num_classes, dropout=dropout, option=option)
    check_images(model, network, image_shape, option)
    _check_weights(model, network, option)
    _check_head(model, network, image_shape, option)
    return model


def check_images(model: Classifier, network: Network, image_shape: Shape, option: str) -> None:
    """Refuse images that a network cannot read or learn from; the network itself is left as it is.

    Raises:
        InputError: If it raises, gives other numbers than logits, or gives the images no gradient.
    """
    tried, images = copy.deepcopy(model).requires_grad_(True), _images(image_shape)
    for training in (False, True):
        try:
            own = images.detach().to(tried.mean.device).requires_grad_()
            logits = tried.train(training)(own)
            if logits.shape != (2, model.head.out_features):
                raise ValueError(f"it gives {tuple(logits.shape)} numbers instead of {(2, model.head.out_features)}")
            functional.cross_entropy(logits, logits.new_zeros(2, dtype=torch.int64)).backward()
            tried.blocks(own)
        # Of a foreign module anything may come.
        except Exception as error:
            raise InputError(
                f"{network.build} cannot read images of {image_shape[1]} x {image_shape[2]}"
                + ("" if network.size is None else f" resized to {network.size} x {network.size}")
                + f": {' '.join(str(error).split())[:300].removesuffix('.')} ({option}.size)"
            ) from error
        if own.grad is None:
            raise InputError(f"{network.build} gives images no gradient, which attacks follow ({option})")
    if not bool(logits.isfinite().all()):
        raise InputError(f"{network.build} gives numbers that are not finite ({option})")


def _check_weights(model: nn.Module, network: Network, option: str) -> None:
    """An ensemble gives every parameter of a member its own place."""
    once, again = (dict(model.named_parameters(remove_duplicate=one)) for one in (True, False))
    if shared := sorted(set(again) - set(once)):
        raise InputError(
            f"{network.build} uses one weight in several layers, as {shared[0]}: a member needs each once ({option})"
        )


@torch.no_grad()
def _check_head(model: Classifier, network: Network, image_shape: Shape, option: str) -> None:
    """What was cut off must have been the last thing that the module does."""
    if not isinstance(model, Foreign) or model.head_name is None or model.layers:
        return
    model.eval()
    images = _images(image_shape)
    ours, (theirs, name) = model(images), (model.prepared(images), model.head_name)
    body = copy.deepcopy(model.body)
    set_submodule(body, name, model.head)
    whole: Tensor = as_tensor(body(theirs)).flatten(1)
    if whole.shape != ours.shape or not torch.allclose(whole, ours, rtol=1e-3, atol=1e-4):
        raise InputError(
            f"{name} is not the last layer of {network.build}: its outputs are not what the network gives; name the last "
            f"nn.Linear ({option}.head)"
        )


def _images(shape: Shape) -> Tensor:
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
