"""What a checkpoint may be that a configuration or a command line names: a local file of tensors and plain values."""

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from poison_and_defend.core.errors import InputError

_KEYWORDS = ("best", "last", "hpc")


def check_checkpoint(config: Namespace, command: str) -> None:
    """Refuse every checkpoint that could run code or that is not there, and have Lightning read the others as tensors only.

    Lightning takes ``weights_only`` that is not set for false where the checkpoint is an address, and lets the checkpoint say
    which class the model is.

    Args:
        config: Of one of Lightning's commands; its ``weights_only`` becomes true.
        command: ``fit``, ``validate``, ``test`` or ``predict``.

    Raises:
        InputError: If the checkpoint is an address, is missing, holds anything else, or names classes that ``config`` does not.
    """
    if config.get("weights_only") is False:
        raise InputError(
            "weights_only is false, which would run whatever code a checkpoint holds: only true will do (--weights_only true)"
        )
    config["weights_only"] = True
    path = config.get("ckpt_path")
    if path is None or (path == "last" and command == "fit"):
        return
    path = str(path)
    if path in _KEYWORDS or path.startswith("registry"):
        raise InputError(
            f"ckpt_path is {path!r}, which means something only where a fit went before: give a file (--ckpt_path FILE.ckpt)"
        )
    own = set(_class_paths(config.get("model")))
    foreign = [name for name in _class_paths(_hyper_parameters(path)) if name not in own]
    if foreign:
        raise InputError(
            f"the checkpoint {path} is of the class {foreign[0].rpartition('.')[2]}, which the command does not name: "
            "give the model it was made by (--model)"
        )


def _hyper_parameters(path: str) -> Any:
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint {path}, a regular file on this machine (--ckpt_path FILE.ckpt)")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # Files that are no checkpoints make torch raise many kinds.
    except Exception as error:
        raise InputError(f"{unreadable(path, error)} (--ckpt_path)") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "pytorch-lightning_version"} <= checkpoint.keys():
        raise InputError(f"the file {path} is no checkpoint of a fit: those of a Trainer name its version (--ckpt_path)")
    return checkpoint.get("hyper_parameters")


def unreadable(path: str, error: Exception) -> str:
    """Why a checkpoint is refused, in words; torch's are a page."""
    if isinstance(error, pickle.UnpicklingError) and "nsupported" in str(error):
        return f"the checkpoint {path} holds more than tensors and plain values, and is not read since that may run code"
    if isinstance(error, OSError):
        return f"the checkpoint {path} cannot be read: {error.strerror or error}"
    return f"the checkpoint {path} cannot be read: it is damaged or no checkpoint"


def refuse_addresses(config: Namespace) -> None:
    """Refuse options that are addresses: Lightning would read and write them through the network.

    What a logger is told is where it reports to, and left alone.

    Raises:
        InputError: If there is one.
    """
    for key, value in _texts(config.as_dict()):
        if not key.startswith("trainer.logger") and re.search(r"\w+://|::", value):
            raise InputError(f"{key} is {value!r}, an address: local files alone are read and written (--{key})")


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(part, key if name == "init_args" else f"{key}.{name}".strip("."))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part, key)
    elif isinstance(value, str | Path):
        yield key, str(value)


def _class_paths(value: Any) -> list[str]:
    """Every class that a part of a configuration, or what a checkpoint keeps of one, names."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    return [text for key, text in _texts(value) if key.rpartition(".")[2] in ("class_path", "_class_path")]
