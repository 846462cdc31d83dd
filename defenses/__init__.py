"""How a training set is protected before a model sees it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from defenses.sanitized_dataset import SanitizedDataset
    from defenses.sanitizer import DiffusionSanitizer

__all__ = ["DiffusionSanitizer", "SanitizedDataset"]

# torchvision and diffusers take seconds to import, which commands that need neither should not pay.
_HOMES = {"DiffusionSanitizer": "defenses.sanitizer", "SanitizedDataset": "defenses.sanitized_dataset"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
