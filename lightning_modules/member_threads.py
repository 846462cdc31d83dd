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
from torch.func import functional_call
from torch.nn import functional

State = dict[str, Tensor]

_CHUNK = 16


class Workers:
    """Threads with a copy of the network each, since a functional call borrows the module that it is made on.

    Args:
        template: What members are instances of; its mode when work starts is theirs.
    """

    def __init__(self, template: nn.Module) -> None:
        # In a list, so that it is no part of the module that holds this.
        self._template = [template]
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()

    def close(self) -> None:
        """End the threads; the next use starts others, with the template as it then is."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool, self._own = None, threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Workers":
        return Workers(copy.deepcopy(self._template[0], memo))

    def _map(self, work: Callable[[nn.Module, int], Tensor], count: int) -> list[Tensor]:
        if self._pool is None:
            threads = torch.get_num_threads()
            self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        template, own = self._template[0], self._own

        def on_thread(place: int) -> Tensor:
            if not hasattr(own, "network"):
                own.network = copy.deepcopy(template)
            return work(own.network, place)

        return list(self._pool.map(on_thread, range(count)))

    def outputs(self, parameters: State, buffers: State, inputs: Tensor) -> list[Tensor]:
        """Each member's logits of its own ``inputs[i]``, without gradients."""

        @torch.no_grad()
        def one(network: nn.Module, place: int) -> Tensor:
            state = {name: tensor[place] for name, tensor in (parameters | buffers).items()}
            result: Tensor = functional_call(network, state, (_channels_last(inputs[place]),))
            return result

        return self._map(one, len(inputs))

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

        # Activations of a few images stay in a core's cache. Statistics of a batch need all of it.
        size = inputs.shape[1] if _normalizes_batches(self._template[0]) else _CHUNK

        def one(network: nn.Module, place: int) -> Tensor:
            own = {name: tensor.detach()[place].requires_grad_() for name, tensor in parameters.items()}
            state = own | {name: tensor[place] for name, tensor in buffers.items()}
            total = torch.zeros(())
            for number, (images, wanted) in enumerate(zip(inputs[place].split(size), labels[place].split(size), strict=True)):
                logits = functional_call(network, state, (_channels_last(images),))
                loss = functional.cross_entropy(logits, wanted, reduction="sum") / len(labels[place])
                total += loss.detach()
                found = torch.autograd.grad(loss, list(own.values()))
                for parameter, gradient in zip(parameters.values(), found, strict=True):
                    # In place, since the stacked gradient is shared by all threads.
                    (parameter.grad[place].add_ if number else parameter.grad[place].copy_)(gradient)  # type: ignore[index]
            return total

        return torch.stack(self._map(one, len(inputs))).sum()


def _normalizes_batches(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
