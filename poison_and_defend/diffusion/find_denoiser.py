"""Which denoiser a name means: one of the package's, a folder, or a model of the Hugging Face Hub."""

import re
from pathlib import Path

from poison_and_defend.core.errors import InputError

_PACKAGED = Path(__file__).resolve().parents[1] / "pretrained"
_HUB = "hf:"
_HUB_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
# What names in recorded configurations were before the denoisers came with the package.
_FORMER = re.compile(r"pretrained/(\w+)_denoiser/?")


def denoiser_names() -> list[str]:
    """Names of the denoisers that come with the package."""
    return sorted(path.parent.name for path in _PACKAGED.glob("*/config.json"))


def find_denoiser(source: str) -> tuple[str, Path | None]:
    """What diffusers is to load: one of the package's by name, a folder, or a model of the Hugging Face Hub.

    The Hub is asked for what is written ``hf:OWNER/NAME`` and for nothing else: a folder that is not there must not become
    whatever a stranger put under its name.

    Args:
        source: Such as ``digits``, ``my/denoiser`` or ``hf:google/ddpm-cifar10-32``.

    Returns:
        The path or the id, and the folder if it is one of this machine.

    Raises:
        InputError: If it is none of the three.
    """
    names = denoiser_names()
    former = None if Path(source).is_dir() else _FORMER.fullmatch(source)
    name = former[1] if former else source
    if name in names:
        return str(_PACKAGED / name), _PACKAGED / name
    if source.startswith(_HUB):
        identity = source.removeprefix(_HUB)
        if not _HUB_ID.fullmatch(identity):
            raise InputError(
                f"{source!r} names no model of the Hub: write hf:OWNER/NAME, as in hf:google/ddpm-cifar10-32 (--denoiser)"
            )
        # diffusers would read the folder, which none of our checks of local files has seen.
        if Path(identity).exists():
            raise InputError(
                f"{source} names a model of the Hub, but {identity} is here: name that by ./{identity} (--denoiser)"
            )
        return identity, None
    if "\0" not in source and Path(source).is_dir():
        return source, Path(source)
    hub = f"; the Hub's model of that name is {_HUB}{source}" if _HUB_ID.fullmatch(source) else ""
    raise InputError(
        f"there is no denoiser {source!r}: choose {', '.join(names)}, a diffusers folder, or hf:OWNER/NAME{hub} (--denoiser)"
    )
