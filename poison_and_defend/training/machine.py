"""What this machine has to run ranks on: options of a Trainer that cannot work here are refused before any work."""

import os
from typing import Any

import torch

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError

_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
# Each starts processes from inside the Trainer, by pickling what it runs or by a fork whose results are lost.
_INSIDE = ("spawn", "fork", "notebook")


def check_machine(accelerator: Any, devices: Any, num_nodes: Any, strategy: Any) -> None:
    """Refuse what cannot be had here.

    The arguments are those of Lightning's Trainer; where one is an object, it is passed over.

    Raises:
        InputError: If the accelerator or the strategy is unknown or not here, or devices or nodes are none or too many.
    """
    if isinstance(accelerator, str):
        _check_accelerator(accelerator)
    if isinstance(num_nodes, int):
        at_least("num_nodes", num_nodes, 1, "--trainer.num_nodes")
    if isinstance(accelerator, str):
        _check_devices(accelerator, devices)
    if isinstance(strategy, str):
        _check_strategy(accelerator, strategy)


def gpus() -> int:
    """GPUs that torch can use."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return int(torch.backends.mps.is_available())


def _here() -> str:
    count, cores = gpus(), os.cpu_count() or 1
    found = "no GPU" if count == 0 else "1 GPU" if count == 1 else f"{count} GPUs"
    return f"this machine has {found} that torch {torch.__version__} can use, and {cores} CPU core{'s' * (cores > 1)}"


def _check_accelerator(name: str) -> None:
    if name not in _ACCELERATORS:
        raise InputError(f"accelerator is {name!r}: it is one of {', '.join(_ACCELERATORS)} (--trainer.accelerator)")
    missing = {
        "gpu": not gpus(),
        "cuda": not torch.cuda.is_available(),
        "mps": not torch.backends.mps.is_available(),
        "tpu": not _has_tpu(),
    }
    if missing.get(name):
        raise InputError(f"accelerator is {name}, but {_here()}: use cpu or auto (--trainer.accelerator cpu)")


def _has_tpu() -> bool:
    try:
        import torch_xla  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    except ImportError:
        return False
    return True


def _check_devices(accelerator: str, devices: Any) -> None:
    on_gpu = accelerator in ("gpu", "cuda", "mps") or (accelerator == "auto" and gpus() > 0)
    if accelerator == "tpu" or devices is None or devices == "auto":
        return
    wanted: list[int] | int
    try:
        if isinstance(devices, str) and "," in devices:
            wanted = [int(number) for number in devices.split(",") if number.strip()]
        elif isinstance(devices, list | tuple):
            wanted = [int(number) for number in devices]
        else:
            wanted = int(devices)
    except (TypeError, ValueError):
        kinds = "a number, auto, or a GPU's place such as 0, with a comma" if on_gpu else "a number of processes or auto"
        raise InputError(f"devices is {devices!r}: it is {kinds} (--trainer.devices 1)") from None
    if isinstance(wanted, list):
        if not on_gpu:
            raise InputError(f"devices is {devices}, a list of GPUs, but {_here()}: give a number (--trainer.devices 1)")
        if not wanted or min(wanted) < 0 or max(wanted) >= gpus() or len(set(wanted)) < len(wanted):
            raise InputError(f"devices is {devices}, but {_here()}, numbered from 0 (--trainer.devices)")
    elif wanted < 1 and not (wanted == -1 and on_gpu):
        raise InputError(f"devices is {wanted}: at least 1 is needed, and {_here()} (--trainer.devices 1)")
    # A launcher may show each of its processes one GPU of several.
    elif on_gpu and wanted > gpus() and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise InputError(f"devices is {wanted}, but {_here()} (--trainer.devices {gpus()})")


def _check_strategy(accelerator: Any, name: str) -> None:
    if name == "auto" or name == "ddp":
        return
    if any(word in name for word in _INSIDE):
        raise InputError(
            f"strategy is {name!r}, whose ranks are no commands of their own and lose what they make: use ddp "
            "(--trainer.strategy ddp)"
        )
    from lightning.pytorch.strategies import StrategyRegistry

    known = [known for known in StrategyRegistry.available_strategies() if not any(word in known for word in _INSIDE)]
    if name not in known:
        raise InputError(f"strategy is {name!r}: it is auto or one of {', '.join(known)} (--trainer.strategy ddp)")
    if "fsdp" in name and accelerator in ("cpu", "auto") and not gpus():
        raise InputError(f"strategy is {name}, which needs a GPU, but {_here()}: use ddp (--trainer.strategy ddp)")
