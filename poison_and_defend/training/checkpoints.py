"""Classifiers that a fit left."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import check_fields, guarded, open_regular, plain
from poison_and_defend.lightning_modules.classifier import ClassifierModule
from poison_and_defend.lightning_modules.networks.spec import Network

_WHAT = "no checkpoint of a classifier"
_HEAD = "net.head.weight"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("num_classes", "in_channels", "seed"), int),
    **dict.fromkeys(("mean", "std"), (list, tuple)),
    "network": dict,
    # What networks were called, by names alone.
    "backbone": str,
}


def load_classifier(path: Path, channels: int, classes: int, option: str) -> ClassifierModule:
    """A ``ClassifierModule`` in evaluation mode from a Lightning checkpoint, of which only tensors and plain values are read.

    Args:
        path: The checkpoint.
        channels: Of the images that it is to read.
        classes: How many they have, at least.
        option: What the user should change if it cannot be used.

    Raises:
        InputError: If the file is missing, foreign or of another model, or does not fit the images.
    """
    checkpoint = _read(path, option)
    with guarded(path, _WHAT, option):
        given, state = checkpoint["hyper_parameters"], checkpoint["state_dict"]
        given = {name: given[name] for name in _FIELDS if name in given}
        check_fields(given, {name: _FIELDS[name] for name in given}, path, _WHAT, option)
        check_fields(given, {"num_classes": int, "in_channels": int}, path, _WHAT, option)
        # Before a network is made, which could be of any size.
        if given["in_channels"] != channels or given["num_classes"] < classes:
            raise InputError(
                f"the classifier {path} reads images of {given['in_channels']} channels and {given['num_classes']} classes, "
                f"these have {channels} and {classes} ({option})"
            )
        if len(state[_HEAD]) != given["num_classes"]:
            raise ValueError(f"it says {given['num_classes']} classes and has weights of {len(state[_HEAD])}")
        for name in ("mean", "std"):
            values = given.get(name, (0.5,))
            if len(values) not in (1, channels) or not all(isinstance(value, float | int) for value in values):
                raise ValueError(f"its {name} has no number for each channel")
        model = ClassifierModule(network=_network(given), **given)
        model.load_state_dict(state)
    return model.eval()


def _network(given: dict[str, Any]) -> Network:
    """The network that a checkpoint names, taken out of what else it says.

    Raises:
        ValueError: If it is of a class that only a user may name, since naming one in a file would run it.
    """
    network = Network.of(given.pop("network", given.pop("backbone", "convnet")))
    given.pop("backbone", None)
    if not network.harmless:
        raise ValueError(f"its network is {network.build!r}, which is not a network of ours, timm or torchvision")
    return network.untrained()


def _read(path: Path, option: str) -> dict[str, Any]:
    with guarded(path, _WHAT, option), open(open_regular(path), "rb") as file:
        size = path.stat().st_size
        # Not packed, as torch writes it, so that nothing is larger than the file; its older formats say sizes of their own.
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in members) or sum(i.file_size for i in members) > size:
            raise ValueError("it is not as torch writes it")
        file.seek(0)
        try:
            return check_fields(
                torch.load(file, map_location="cpu", weights_only=True),
                {"hyper_parameters": dict, "state_dict": dict},
                path,
                _WHAT,
                option,
            )
        except InputError:
            raise
        # Files that are no checkpoints make torch raise many kinds.
        except Exception as error:
            raise InputError(
                f"{plain(path)} is damaged or {_WHAT}: {plain(' '.join(str(error).split()))[:200]} ({option})"
            ) from error
