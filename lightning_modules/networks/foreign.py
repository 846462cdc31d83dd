"""A network of somebody else's as a classifier: its head cut off, its features what the head saw or what some layers give."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.base import Classifier, Inputs, widened

# Where nothing says how large a network's images are; what is pooled has as many channels at any size.
_SIDES = (32, 64, 224)


class Foreign(Classifier):
    """A classifier over any module whose last layer is linear.

    Args:
        body: The module; what was its head is an ``nn.Identity``.
        head: Features to logits.
        inputs: What happens to images first.
        dropout: Probability, before each of the blocks.
        layers: Names of layers whose pooled outputs are the features; none for what the module itself gives.
        blocks: Names of layers that end-to-end attacks look at, besides the features.
        head_name: Where in the module its head was.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Linear,
        inputs: Inputs,
        dropout: float = 0.0,
        layers: Sequence[str] = (),
        blocks: Sequence[str] = (),
        head_name: str | None = None,
    ) -> None:
        super().__init__(body, head, inputs, dropout)
        self.layers, self.block_names, self.head_name = tuple(layers), tuple(blocks), head_name

    def blocks(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Surrogate.blocks`."""
        found, features = self._run(images, self.block_names)
        return [*(widened(found[name].flatten(1)) for name in self.block_names), features]

    def features(self, images: Tensor) -> Tensor:
        """Penultimate features ``(N, F)`` of float images ``(N, C, H, W)`` in [0, 1]."""
        return self._run(images, ())[1]

    def _run(self, images: Tensor, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Outputs of the layers of these names, and the features."""
        prepared, wanted = self.prepared(images), dict.fromkeys((*names, *self.layers))
        with self._dropout():
            if not self.layers:
                found, features = layer_outputs(self.body, prepared, wanted)
                return found, widened(features)
            # What comes behind the last of them would be computed for nothing.
            found, _ = layer_outputs(self.body, prepared, wanted, stop=True)
        last = channels_last(self.body)
        return found, torch.cat([pooled(found[name], last) for name in self.layers], 1)

    @contextmanager
    def _dropout(self) -> Iterator[None]:
        if not self.dropping:
            yield
            return

        def drop(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (functional.dropout(inputs[0], self.dropout), *inputs[1:])

        with ExitStack() as hooks:
            for name in self.block_names:
                hooks.enter_context(_removed(self.body.get_submodule(name).register_forward_pre_hook(drop)))
            yield


class _Enough(Exception):
    """Raised within a module once all that is wanted of it is there."""


def layer_outputs(
    body: nn.Module, images: Tensor, names: Iterable[str], *, stop: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """What layers of a module give, by their names, and what it gives itself, flattened.

    Args:
        body: The module. Hooks are on it meanwhile alone, so that a copy of it has none of them.
        images: ``(N, C, H, W)`` as it takes them.
        names: Dotted names of layers; of one that is used several times the last output counts.
        stop: Whether to end once all of them are there; the second value is then empty.
    """
    found: dict[str, Tensor] = {}
    wanted = list(names)

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        found[name] = as_tensor(output)
        if stop and len(found) == len(wanted):
            raise _Enough

    with ExitStack() as hooks:
        for name in wanted:
            hooks.enter_context(_removed(body.get_submodule(name).register_forward_hook(partial(keep, name))))
        try:
            output = as_tensor(body(images)).flatten(1)
        except _Enough:
            output = images.new_zeros(0)
    return found, output


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def as_tensor(output: Any) -> Tensor:
    """The tensor in what a module gives: itself, the logits of transformers and of torchvision, or the first of several."""
    output = getattr(output, "logits", output)
    output = getattr(output, "last_hidden_state", output)
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise TypeError(f"a layer gives a {type(output).__name__} instead of a tensor")
    return output


def pooled(outputs: Tensor, last: bool) -> Tensor:
    """Mean over all places: of ``(N, C, H, W)``, or ``(N, H, W, C)`` if channels are last, of ``(N, T, C)``, or ``(N, C)``."""
    outputs = widened(outputs)
    if outputs.ndim == 4:
        return outputs.mean((1, 2) if last else (2, 3))
    if outputs.ndim == 3:
        return outputs.mean(1)
    return outputs.flatten(1)


def channels_last(body: nn.Module) -> bool:
    """Whether the layers of a module give ``(N, H, W, C)``, as far as it says so: those of Swin transformers do."""
    return str(getattr(body, "output_fmt", "")).endswith("NHWC") or type(body).__name__ == "SwinTransformer"


def cut_head(module: nn.Module, name: str | None, num_classes: int, label: str, option: str) -> tuple[str, nn.Linear]:
    """Take the last linear layer out of a module, and leave an identity in its place.

    Args:
        module: It is changed.
        name: Dotted name of the layer; by default the last that gives ``num_classes`` numbers, or the last of all.
        num_classes: A layer of another number of outputs is replaced by a new one, with weights from the global generator.
        label: What the network is called.
        option: What the user should change.

    Raises:
        InputError: If there is no such layer.
    """
    linear = {own: part for own, part in module.named_modules() if isinstance(part, nn.Linear) and own}
    if not linear:
        raise InputError(f"{label} has no nn.Linear that could be its head: features and a linear head are needed ({option})")
    if name is None:
        fitting = [own for own, part in linear.items() if part.out_features == num_classes]
        name = (fitting or list(linear))[-1]
    if name not in linear:
        near = difflib.get_close_matches(name, list(linear), 1) or [list(linear)[-1]]
        raise InputError(f"head is {name!r}, which is no nn.Linear of {label}: did you mean {near[0]}? ({option}.head)")
    head = linear[name]
    set_submodule(module, name, nn.Identity())
    if head.out_features != num_classes:
        head = nn.Linear(head.in_features, num_classes)
    return name, head


def set_submodule(module: nn.Module, name: str, part: nn.Module) -> None:
    """Put a part where another of this dotted name is."""
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, part)


def check_layers(module: nn.Module, names: Iterable[str], label: str, option: str) -> None:
    """Refuse names of layers that a module does not have.

    Raises:
        InputError: Naming the nearest that it has.
    """
    known = [name for name, _ in module.named_modules() if name]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            told = f": did you mean {near[0]}?" if near else ""
            raise InputError(f"{name!r} is no layer of {label}{told} ({option})")


@torch.no_grad()
def count_features(module: nn.Module, names: Sequence[str], channels: int, size: int | None, label: str, option: str) -> int:
    """How many numbers the pooled outputs of some layers are.

    Raises:
        InputError: If the module cannot be asked.
    """
    was_training, said = module.training, ""
    module.eval()
    for side in _SIDES if size is None else (size,):
        try:
            found, _ = layer_outputs(module, torch.zeros(1, channels, side, side), names, stop=True)
            module.train(was_training)
            return sum(pooled(found[name], channels_last(module)).shape[1] for name in names)
        # Of a foreign module anything may come.
        except Exception as error:
            said = " ".join(str(error).split())[:200]
    raise InputError(f"layers {list(names)} of {label} give no features: {said} ({option}.layers, {option}.size)")


def quiet(module: nn.Module) -> nn.Module:
    """Turn off a module's own dropout and stochastic depth, of which a member of an ensemble could not have its own."""
    for part in module.modules():
        name = type(part).__name__
        if isinstance(part, nn.modules.dropout._DropoutNd) or name == "StochasticDepth":
            part.p = 0.0  # type: ignore[assignment]
        elif name.endswith("DropPath") or name.startswith("DropBlock"):
            part.drop_prob = 0.0  # type: ignore[assignment]
        elif isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    return module
