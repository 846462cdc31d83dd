"""What the environment says about Weights & Biases, before anything is written or sent."""

import os

from poison_and_defend.core.errors import InputError

_MODES = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
    "shared": "shared",
}


def wanted_mode() -> str:
    """``online``, ``offline``, ``disabled`` or ``shared``, as ``WANDB_MODE`` asks; online where it is unset.

    ``WANDB_DISABLED=true``, which other trainers read, is ``disabled``.

    Raises:
        InputError: If the mode is another.
    """
    given = os.environ.get("WANDB_MODE", "").strip().lower()
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ("true", "1", "yes", "on"):
        given = "disabled"
    if not given and "WANDB_MODE" not in os.environ:
        return "online"
    if given not in _MODES:
        raise InputError(
            f"WANDB_MODE is {given!r}: it is online, offline, disabled or shared, for example WANDB_MODE=offline "
            "(--wandb_project null needs none)"
        )
    os.environ["WANDB_MODE"] = given
    return _MODES[given]


def check_variables() -> None:
    """Refuse what W&B would raise pages about once the work has begun.

    Raises:
        InputError: If one of its variables has a value that it does not take, naming both.
    """
    if wanted_mode() == "disabled":
        return
    import wandb

    for name, value in sorted(os.environ.items()):
        if not name.startswith("WANDB_"):
            continue
        try:
            wandb.Settings().update_from_env_vars({name: value})
        except (ValueError, wandb.errors.UsageError) as error:
            raise InputError(
                f"{name} is {value!r}, which W&B does not take: {_reason(error)} (unset it; --wandb_project null needs none)"
            ) from error


def _reason(error: Exception) -> str:
    """What pydantic says of one value, or W&B in one line."""
    details = getattr(error, "errors", None)
    text = details()[0]["msg"] if callable(details) else str(error)
    return text[:1].lower() + text[1:].split(". ")[0]
