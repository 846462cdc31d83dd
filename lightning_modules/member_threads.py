"""Members of an ensemble on the threads of a CPU: each thread trains whole members, rather than a share of every operation.

Small convolutions are too short to be worth splitting: two threads on one network gain a third, on two networks almost all.
Images lie channels last, which convolution and pooling prefer on CPUs.
"""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.lightning_modules.recipe import Recipe

State = dict[str, Tensor]

_CHUNK = 16


class Workers:
    """Threads with a copy of the network each, which becomes one member after another.

    Args:
        template: What members are instances of; its mode when work starts is theirs.
        recipe: Whose precision their training computes in.
    """

    def __init__(self, template: nn.Module, recipe: Recipe) -> None:
        # In a list, so that it is no part of the module that holds this.
        self._template, self._recipe = [template], recipe
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()

    def close(self) -> None:
        """End the threads; the next use starts others, with the template as it then is."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool, self._own = None, threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Workers":
        return Workers(copy.deepcopy(self._template[0], memo), self._recipe)

    def _map(self, work: Callable[[nn.Module, int], Tensor], count: int) -> list[Tensor]:
        if self._pool is None:
            threads = torch.get_num_threads()
            self._pool = ThreadPoolExecutor(threads, initializer=_alone)
        template, own = self._template[0], self._own

        def on_thread(place: int) -> Tensor:
            if not hasattr(own, "network"):
                own.network = pool_first(copy.deepcopy(template))
            return work(own.network, place)

        return list(self._pool.map(on_thread, range(count)))

    def outputs(self, parameters: State, buffers: State, inputs: Tensor) -> list[Tensor]:
        """Each member's logits of its own ``inputs[i]``, without gradients."""
        size = self._together(inputs.shape[1], network_trains=self._template[0].training)

        @torch.no_grad()
        def one(network: nn.Module, place: int) -> Tensor:
            _become(network, parameters, buffers, place)
            return torch.cat([network(_channels_last(images)) for images in inputs[place].split(size)])

        return self._map(one, len(inputs))

    def _together(self, count: int, *, network_trains: bool) -> int:
        """How many of as many images go through a network at once: activations of a few stay in a core's cache."""
        # Statistics of a batch need all of it.
        return count if network_trains and _normalizes_batches(self._template[0]) else _CHUNK

    def gradients(self, parameters: State, buffers: State, inputs: Tensor, labels: Tensor) -> Tensor:
        """Write every member's gradient of its mean cross-entropy into the stacked parameters' ``grad``.

        Args:
            inputs: ``(m, B, C, H, W)`` float.
            labels: ``(m, B)`` int64.

        Returns:
            Sum of the members' losses.
        """
        for parameter in parameters.values():
            parameter.grad = torch.empty_like(parameter)
        size = self._together(inputs.shape[1], network_trains=True)

        def one(network: nn.Module, place: int) -> Tensor:
            _become(network, parameters, buffers, place)
            total = torch.zeros(())
            for images, wanted in zip(inputs[place].split(size), labels[place].split(size), strict=True):
                # Autocast is a thread's own.
                with self._recipe.computing(images.device):
                    logits = network(_channels_last(images)).float()
                loss = functional.cross_entropy(logits, wanted, reduction="sum") / len(labels[place])
                total += loss.detach()
                loss.backward()
            for name, own in network.named_parameters():
                # The stacked gradient is shared by all threads, a place each. Logits need not depend on every parameter.
                place_of = parameters[name].grad[place]  # type: ignore[index]
                place_of.zero_() if own.grad is None else place_of.copy_(own.grad)
                own.grad = None
            return total

        return torch.stack(self._map(one, len(inputs))).sum()


def _alone() -> None:
    """A worker's own settings: no threads beneath it, and none spent on gradients below 1e-38."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _become(network: nn.Module, parameters: State, buffers: State, place: int) -> None:
    """Let a network's tensors be a member's: buffers its own, so that running statistics stay there; weights channels last.

    Weights decide the layout: an image of one channel is channels last and not, and convolution would choose the other.
    """
    for name, own in network.named_parameters():
        weights = parameters[name].data[place]
        own.data = _channels_last(weights)
    for name, buffer in network.named_buffers():
        buffer.data = buffers[name][place]


def pool_first(network: nn.Module) -> nn.Module:
    """Put every max pooling before the ReLU that it follows: the same numbers, a quarter of the work. Changes the network."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for place in range(1, len(module)):
                if isinstance(module[place], nn.MaxPool2d) and isinstance(module[place - 1], nn.ReLU):
                    module[place - 1], module[place] = module[place], module[place - 1]
    return network


def _normalizes_batches(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def _channels_last(tensor: Tensor) -> Tensor:
    # A clone, since one channel is channels last already and would keep the other strides.
    return tensor.clone(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
