"""Countermeasures and arms by their names, for tests that try many of them."""

from collections.abc import Sequence

from poison_and_defend.defenses import Chain, Defense, Rewriter
from poison_and_defend.defenses.rewriters.named import REWRITERS
from poison_and_defend.diffusion.denoiser import Denoiser


def rewriter(
    name: str,
    *,
    sigma: float | str = 0.25,
    denoiser: Denoiser | str | None = None,
    seed: int | None = 0,
    draw: int = 0,
    jpeg_quality: int = 75,
) -> Rewriter:
    """A rewriter by its name, with those of the options that it has."""
    common = {"sigma": sigma, "denoiser": denoiser, "seed": seed, "draw": draw, "quality": jpeg_quality}
    return REWRITERS[name]().completed(**{key: value for key, value in common.items() if value is not None})


def arms(names: Sequence[str]) -> dict[str, Defense | None]:
    """What ``--defenses`` says, for those without options of their own."""
    plain: dict[str, Defense | None] = {"none": None, "no_attack": Chain(attacked=False)}
    return {name: plain[name] if name in plain else REWRITERS[name]() for name in names}
