"""Clean-label poisoning attacks, and diffusion sanitizing of whole training sets against them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poison_and_defend.transforms.sanitized_dataset import SanitizedDataset
    from poison_and_defend.transforms.sanitizer import DiffusionSanitizer

__all__ = ["DiffusionSanitizer", "SanitizedDataset"]

# torch, torchvision and diffusers take seconds to import, which whoever asks for help should not pay.
_HOMES = {
    "DiffusionSanitizer": "poison_and_defend.transforms.sanitizer",
    "SanitizedDataset": "poison_and_defend.transforms.sanitized_dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
